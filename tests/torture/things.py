"""What clients put, by number: whoever has the number has the bytes."""

from __future__ import annotations

from random import Random
from typing import Final

from eris import BlockSize, ReadCapability, encode, reference_of
from eris.model import Reference

__all__ = ["block_of", "content_of", "encoded", "size_of"]

_LARGE_EACH: Final = 16


def size_of(number: int) -> BlockSize:
    """The size of the block with a number."""
    return BlockSize.SMALL if number % _LARGE_EACH else BlockSize.LARGE


def block_of(number: int) -> tuple[Reference, bytes]:
    """One block."""
    block = Random(number).randbytes(size_of(number))
    return reference_of(block), block


def content_of(number: int) -> bytes:
    """Something to encode: up to some dozens of small blocks."""
    random = Random(f"content {number}")
    return random.randbytes(random.randrange(1, 40_000))


def encoded(number: int) -> tuple[ReadCapability, dict[Reference, bytes]]:
    """What it becomes."""
    capability, blocks = encode(content_of(number), block_size=BlockSize.SMALL)
    return capability, dict(blocks)

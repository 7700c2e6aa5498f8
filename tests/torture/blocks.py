"""New blocks, out of a seed."""

from __future__ import annotations

from random import Random

from eris.crypto import reference_of
from eris.model import BlockSize, Reference

__all__ = ["new_blocks"]


def new_blocks(random: Random, size: BlockSize, count: int) -> dict[Reference, bytes]:
    """Blocks that were never there."""
    blocks = (random.randbytes(size) for _ in range(count))
    return {reference_of(block): block for block in blocks}

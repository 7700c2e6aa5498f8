"""What contents cost as blocks, and how the bytes of a pack become contents; pure functions."""

from __future__ import annotations

from typing import Final

from eris.model import BlockSize
from eris.node import block_count, leaf_count, tree_level

__all__ = [
    "LEAST_BYTES_A_PACK",
    "MAX_PACK_SIZE",
    "PIECE_SIZE",
    "choose_by_cost",
    "piece_count",
    "piece_lengths",
    "root_level",
]

PIECE_SIZE: Final = BlockSize.LARGE - 1
"""With the one byte of padding that every content has, exactly one leaf."""

MAX_PACK_SIZE: Final = 16 * 1024 * 1024
"""What a decoder must be ready to hold, of each pack that it works on."""

LEAST_BYTES_A_PACK: Final = 64 * 1024
"""A tree has no more packs than entries and packs of this size in its stream: few are smaller."""

# Blocks of 32 KiB may cost this many times what blocks of 1 KiB would: an eighth more bytes at most
# for up to thirty times fewer blocks.
_FACTOR: Final = (9, 8)


def choose_by_cost(content_length: int) -> BlockSize:
    """Pick the block size for content of this many bytes: large if it costs little more."""
    small = block_count(content_length, BlockSize.SMALL) * BlockSize.SMALL
    large = block_count(content_length, BlockSize.LARGE) * BlockSize.LARGE
    above, below = _FACTOR
    return BlockSize.LARGE if large * below <= small * above else BlockSize.SMALL


def piece_count(stored_size: int) -> int:
    """How many contents hold a pack that is stored in this many bytes."""
    return -(-stored_size // PIECE_SIZE)


def piece_lengths(stored_size: int) -> list[int]:
    """How many bytes each of them has."""
    full, rest = divmod(stored_size, PIECE_SIZE)
    return [PIECE_SIZE] * full + ([rest] if rest else [])


def root_level(content_length: int, block_size: BlockSize) -> int:
    """The level of the root of a content of this many bytes."""
    return tree_level(leaf_count(content_length, block_size), block_size)

"""Which contents are small: so small that all of one is fetched for a part of it; pure."""

from __future__ import annotations

from eris.capability import ReadCapability
from eris.model import BlockSize

__all__ = ["is_small", "most_blocks"]


def is_small(capability: ReadCapability) -> bool:
    """Whether a content has one leaf, or is one of up to 16 KiB."""
    return most_blocks(capability) > 0


def most_blocks(capability: ReadCapability) -> int:
    """How many blocks a small content has at most; 0 for one that is not small."""
    if capability.level == 0:
        return 1
    if capability.level == 1 and capability.block_size is BlockSize.SMALL:
        return 1 + capability.block_size.arity
    return 0

"""A patch compressed: at which level, and whether the base before it is worth anything.

Synchronous, for a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eris_fs.packed.frame import compress_with

__all__ = ["Squeezed", "memory_for", "squeeze"]

_QUICK: Final = 3
# What is left so small that no level makes it smaller by an amount that counts.
_NEXT_TO_NOTHING: Final = 100
# A prefix that saves less is not worth reading.
_WORTH: Final = 0.98

# What the library takes beside the bytes it is given: the tables of level 19 and more.
_TABLES: Final = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What is stored of a patch, and whether its prefix is needed for it."""

    stored: bytes = field(repr=False)
    prefixed: bool


def memory_for(size: int, prefix_size: int) -> int:
    """About how many bytes of memory `squeeze` takes for so much, arguments and all."""
    # The library has a copy of both.
    both = size + prefix_size
    return 3 * both + min(_TABLES, 16 * both)


def squeeze(data: bytes, prefix: bytes, level: int) -> Squeezed:
    """Compress a patch as small as it gets at this level or below.

    The same bytes for the same arguments and library. What does not get smaller stays as it is.
    """
    quick = min(_QUICK, level)
    best = compress_with(data, b"", quick)
    prefixed = False
    if prefix:
        helped = compress_with(data, prefix, quick)
        if len(helped) <= _WORTH * len(best):
            best, prefixed = helped, True
    if level > quick and len(best) * _NEXT_TO_NOTHING > len(data):
        higher = compress_with(data, prefix if prefixed else b"", level)
        best = min(best, higher, key=len)
    if len(best) >= len(data):
        return Squeezed(data, prefixed=False)
    return Squeezed(best, prefixed)

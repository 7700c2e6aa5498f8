"""A patch compressed: at which level, and whether the base before it is worth anything.

Synchronous, for a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eris_fs.packed.frame import compress_with

__all__ = ["Squeezed", "memory_for", "squeeze"]

_QUICK: Final = 3
# Where so little is left, as of a rebuild, no level saves what counts; nor where next to nothing is
# saved, as of pictures, which are compressed already. Between these it may be a third of a delta.
_LEAST: Final = 0.002
_MOST: Final = 0.99
# A prefix that saves less is not worth reading.
_WORTH: Final = 0.98

# What the library's tables take at level 19, and how many times the bytes that they are for.
_TABLES: Final = 84 * 1024 * 1024
_TIMES: Final = 16


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What is stored of a patch, and whether its prefix is needed for it."""

    stored: bytes = field(repr=False)
    prefixed: bool


def memory_for(size: int, prefix_size: int) -> int:
    """About how many bytes of memory `squeeze` takes for so much, arguments and all."""
    both = size + prefix_size
    # The library copies the prefix, and what is made may be as large as what it is made of.
    return 2 * both + min(_TABLES, _TIMES * both)


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
    if level > quick and _LEAST < len(best) / len(data) < _MOST:
        higher = compress_with(data, prefix if prefixed else b"", level)
        best = min(best, higher, key=len)
    if len(best) >= len(data):
        return Squeezed(data, prefixed=False)
    return Squeezed(best, prefixed)

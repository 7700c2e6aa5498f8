"""Tells glibc's allocator to give back what is large, and, after a rush, all that is free.

Baking takes pieces of many MiB from one thread and the next. Left to itself, glibc keeps a heap for
each thread and, after the first large piece was freed, takes the next ones out of these heaps,
where small pieces above keep them from being given back: a third more memory than is in use.
"""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["give_back_all", "give_back_what_is_large"]

# The numbers of <malloc.h>. A threshold that is set no longer adapts itself.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_LARGE: Final = 1024 * 1024
_ARENAS: Final = 2


def give_back_what_is_large() -> None:
    """Set it for this process, before threads are started. Without glibc nothing happens."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    set_option(_MMAP_THRESHOLD, _LARGE)
    set_option(_TRIM_THRESHOLD, _LARGE)
    set_option(_ARENA_MAX, _ARENAS)


def give_back_all() -> None:
    """Give back every page that is free now. Takes some milliseconds for a hundred MiB."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    trim(0)

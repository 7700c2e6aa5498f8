"""What tells a tree from the same tree changed, without reading its files.

A digest of every name in it with the device, inode, mode, size and times of what that is. Writing
to a file, or replacing one, changes its time of change, which nobody can put back. Two stamps that
are equal say that the content is, if the first was `settled`: a change within one tick of the file
system's clock would leave the same time behind.

Plain synchronous code, in steps, for a worker thread.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from guix_glue.errors import UnsupportedItem

__all__ = ["ENTRY_COST", "TreeStamp", "stamp_steps"]

ENTRY_COST: Final = 16 * 1024
"""What opening a small file costs, as bytes of one that is large."""

# Times with a fraction come from the kernel's clock, which ticks a hundred times a second or more.
# Without one the file system may count in steps of up to two seconds.
_FINE_TICK_NS: Final = 100_000_000
_COARSE_TICK_NS: Final = 2_000_000_000
_FRACTION_NS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class TreeStamp:
    """`digest` are 32 bytes; `cost` is about what reading the tree takes, in bytes."""

    digest: bytes
    cost: int
    settled: bool


def stamp_steps(path: str) -> Generator[int, None, TreeStamp]:
    """Look at a tree, in a step for each entry, which gives the cost of those so far.

    Raises: UnsupportedItem, if it changes meanwhile; OSError.
    """
    now_ns = time.time_ns()
    state, cost, settled = sha256(), 0, True
    waiting = [os.fsencode(path)]
    while waiting:
        place = waiting.pop()
        status = os.lstat(place)
        facts = (
            *(status.st_dev, status.st_ino, status.st_mode, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns),
        )
        # Names hold no zero byte, and numbers no letter.
        state.update(b"%b\0%b\0" % (os.path.basename(place), repr(facts).encode()))
        settled &= status.st_ctime_ns < now_ns - _tick_ns(status.st_ctime_ns)
        cost += ENTRY_COST
        if stat.S_ISDIR(status.st_mode):
            names = sorted(_names(path, place))
            state.update(b"%d\0" % len(names))
            waiting += (os.path.join(place, name) for name in reversed(names))
        else:
            cost += status.st_size
        yield cost
    return TreeStamp(state.digest(), cost, settled)


def _names(top: str, place: bytes) -> list[bytes]:
    try:
        return os.listdir(place)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnsupportedItem(top, "it changed while it was read") from error


def _tick_ns(time_ns: int) -> int:
    return _FINE_TICK_NS if time_ns % _FRACTION_NS else _COARSE_TICK_NS

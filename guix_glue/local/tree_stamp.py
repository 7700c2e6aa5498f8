"""What tells a tree from the same tree changed, without reading its files.

A digest of every name in it with the device, inode, mode, size and times of what that is. Writing
to a file, or replacing one, changes its time of change, which nobody can put back. Two stamps that
are equal say that the content is, if the first was `settled`: a change within one tick of the file
system's clock would leave the same time behind.

Plain synchronous code, in steps, for a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar import DEFAULT_NAR_LIMITS

__all__ = ["ENTRY_COST", "TreeStamp", "stamp_steps"]

ENTRY_COST: Final = 16 * 1024
"""What opening a small file costs, as bytes of one that is large."""

_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
# What opening says when something else is there than a moment ago.
_MOVED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})

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

    Close the generator if it is not exhausted.
    Raises: UnsupportedItem, if it changes meanwhile; OSError.
    """
    now_ns = time.time_ns()
    state, cost, settled = sha256(), 0, True
    with closing(_Walk(path).entries()) as entries:
        for depth, name, status in entries:
            times = status.st_mtime_ns, status.st_ctime_ns
            facts = depth, status.st_dev, status.st_ino, status.st_mode, status.st_size, *times
            # Names hold no zero byte, and neither do numbers.
            state.update(b"%b\0%b\0" % (name, repr(facts).encode()))
            settled &= status.st_ctime_ns < now_ns - _tick_ns(status.st_ctime_ns)
            cost += ENTRY_COST + (0 if stat.S_ISDIR(status.st_mode) else status.st_size)
            yield cost
    return TreeStamp(state.digest(), cost, settled)


class _Walk:
    """As contents are read: each directory held open, whatever the length of paths."""

    def __init__(self, top: str) -> None:
        self._top = top
        # Descriptors, and the names left in each, last first.
        self._open: list[tuple[int, list[bytes]]] = []

    def entries(self) -> Generator[tuple[int, bytes, os.stat_result], None, None]:
        """Each entry: how deep, its name (none for the top), its status."""
        try:
            yield 0, b"", self._visit(os.fsencode(self._top))
            while self._open:
                descriptor, names = self._open[-1]
                if names:
                    depth, name = len(self._open), names.pop()
                    yield depth, name, self._visit(name)
                else:
                    self._open.pop()
                    os.close(descriptor)
        except OSError as error:
            if error.errno in _MOVED and self._open:
                raise UnsupportedItem(self._top, "it changed while it was read") from error
            raise
        finally:
            for descriptor, _ in self._open:
                os.close(descriptor)

    def _visit(self, name: bytes) -> os.stat_result:
        parent = self._open[-1][0] if self._open else None
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if len(self._open) > DEFAULT_NAR_LIMITS.depth:
                raise UnsupportedItem(self._top, "directories are too deep")
            descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
            self._open.append((descriptor, []))
            names = sorted(map(os.fsencode, os.listdir(descriptor)), reverse=True)
            self._open[-1] = descriptor, names
        return status


def _tick_ns(time_ns: int) -> int:
    return _FINE_TICK_NS if time_ns % _FRACTION_NS else _COARSE_TICK_NS

"""What a file was like when it was opened, to see afterwards whether it changed under its reader.

Size and time of modification can be put back, and are, by what copies files with their times; the
time of change cannot. It also changes when a file gets another mode, owner, name or number of hard
links: that is taken for a change of the content too, since nobody can tell.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple, Self

__all__ = ["Stamp", "settled_status"]

# CLOCK_REALTIME_COARSE of Linux, which Python has no name for: the one that file systems take their
# times from. A tick of it is 10 ms at most.
_CLOCK: Final = 5
_TICK_S: Final = 0.005
_TICKS: Final = 3
_SOON_NS: Final = 20_000_000


class Stamp(NamedTuple):
    """Which file it is, and what changes when it is written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take it from what the system says of a file."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_nlink,
        )

    def change(self, now: Stamp, *, but_links: bool = False) -> str | None:
        """Tell what shows that a file is not as it was; None if nothing does.

        `but_links`: a time of change that another number of hard links explains does not count, for
        files that are linked to all the time and written to by nobody.
        """
        if now.size != self.size:
            return f"it had {self.size} bytes and has {now.size}"
        if now.mtime_ns != self.mtime_ns:
            return "its time of modification is another"
        if (now.device, now.inode) != (self.device, self.inode):
            return "it is another file"
        linked = but_links and now.links != self.links
        if now.ctime_ns != self.ctime_ns and not linked:
            return "its time of change is another: it was written to, linked or given another mode"
        return None


def settled_status(descriptor: int) -> os.stat_result:
    """What the system says of an open file, such that any later change shows in its times.

    Two changes within one tick of the clock leave the same times behind. So of a file that was
    changed in this very tick the end of that is awaited: some milliseconds, once.
    """
    status = os.fstat(descriptor)
    for _ in range(_TICKS):
        ahead = status.st_ctime_ns - time.clock_gettime_ns(_CLOCK)
        # Further ahead is a clock that was wrong, now or then.
        if not 0 <= ahead < _SOON_NS:
            break
        time.sleep(_TICK_S)
        status = os.fstat(descriptor)
    return status

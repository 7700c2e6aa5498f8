"""A file that takes up room, to be given up when a disk is full.

To delete something takes room too: what changes stands in the WAL before it stands in its place.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["Reserve"]

_LARGEST: Final = 8 * 1024 * 1024
# Of the largest size of the store, and of what its disk has free.
_PART: Final = 16


class Reserve:
    """The reserve of a store: `<store>-reserve`."""

    def __init__(self, store: Path, max_size: int | None, min_free: int | None) -> None:
        self.size = min([_LARGEST, *[size // _PART for size in (max_size, min_free) if size]])
        self._path = os.path.realpath(store) + "-reserve"
        self.is_there = self._is_whole()
        """Whether it takes up its room."""

    def make(self) -> bool:
        """Take up the room; tells whether it is taken."""
        self.is_there = self._is_whole()
        if self.is_there:
            return True
        self.release()
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(file, 0, self.size)
        except OSError:
            self.release()
            return False
        finally:
            os.close(file)
        self.is_there = True
        return True

    def release(self) -> bool:
        """Give the room up; tells whether there was any."""
        was_there, self.is_there = self._is_whole(), False
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        return was_there

    def _is_whole(self) -> bool:
        with contextlib.suppress(OSError):
            return os.lstat(self._path).st_size == self.size
        return False

"""Room for nars that are made whole before anything of them goes out: in memory, or on disk.

Files have no name: whatever happens, they are gone with the process. Room is taken for the whole
nar at once, so that it does not run out in the middle, and all of it has a limit. A disk that is
full, or fails, is as a spool that is too small.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import BinaryIO, Final, Protocol

from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.files import take_room
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.outage import Outage

__all__ = ["NoRoom", "Room", "Spool"]

_log = logging.getLogger(__name__)

_PAUSE_S: Final = 60.0


class NoRoom(Exception):
    """There is none for such a nar, or none at the moment."""


class Room(Protocol):
    """Room for one nar. All but `close` is for a worker thread."""

    def open(self) -> None:
        """Take it. Raises: NoRoom."""

    def write(self, data: bytes) -> None:
        """Add the next bytes. Raises: NoRoom."""

    def read(self, offset: int, size: int) -> bytes:
        """Give some of what was written, at least a byte. Raises: OSError."""

    def close(self) -> None:
        """Give it back; again is harmless. Not while something is written or read."""


class Spool:
    """All room there is: nars of at most `small` bytes in memory, up to `spooled` on disk.

    `memory` and `disk` are for all of them together.
    """

    def __init__(
        self, directory: CacheDirectory, *, small: int, memory: int, spooled: int, disk: int
    ) -> None:
        self._directory = directory
        self._small = small
        self._memory = _Account(memory)
        self._spooled = spooled
        self._disk = _Account(disk)
        self._outage = Outage(_PAUSE_S)
        self._complaints = Complaints(_log, length=1)

    def room(self, size: int) -> Room:
        """Room for a nar of so many bytes, to be closed. Raises: NoRoom."""
        if size <= self._small and self._memory.take(size):
            return _Memory(self._memory, size)
        if size > self._spooled or self._outage.left_s or not self._disk.take(size):
            raise NoRoom
        return _File(self._directory, self._disk, size)

    def failed(self, reason: str) -> None:
        """A disk had room, and then it had not: leave it alone for a while."""
        if self._outage.begin(reason):
            _log.warning("No nars are made on disk for %.0f s: %s", _PAUSE_S, reason)

    def lacks(self, reason: str) -> None:
        """A disk has no room for a nar, be it that there is for smaller ones."""
        text = f"Nars do not fit on the disk of --cache, and are not made there: {reason}"
        self._complaints.say("disk", text)

    def works(self) -> None:
        """A nar was made."""
        self._outage.end()


class _Account:
    """So many bytes, at most."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        """Take some, if they are there."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """These are free again."""
        self._left += size


class _Memory:
    def __init__(self, account: _Account, size: int) -> None:
        self._account = account
        self._size = size
        self._content = bytearray()

    def open(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._content += data

    def read(self, offset: int, size: int) -> bytes:
        return bytes(memoryview(self._content)[offset : offset + size])

    def close(self) -> None:
        self._account.give_back(self._size)
        self._size = 0
        self._content = bytearray()


class _File:
    def __init__(self, directory: CacheDirectory, account: _Account, size: int) -> None:
        self._directory = directory
        self._account = account
        self._size = size
        self._file: BinaryIO | None = None

    def open(self) -> None:
        path = self._directory.new_name()
        try:
            # Ours at once: whoever waits for this may be cancelled.
            self._file = self._directory.create(path)
            path.unlink()
            take_room(self._file, self._size)
        except OSError as error:
            raise NoRoom(error.strerror) from error

    def write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise NoRoom(error.strerror) from error

    def read(self, offset: int, size: int) -> bytes:
        assert self._file is not None
        found = os.pread(self._file.fileno(), size, offset)
        if not found:
            raise OSError(errno.EIO, "a spooled nar is shorter than it was a moment ago")
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._account.give_back(self._size)
        self._size = 0

"""Items that are known to have a public signed narinfo: a file of hashes, that only grows a little.

Who fetches items by signed narinfos notes them here, and who gives them on reads it: so nobody has
to be asked about them, who would learn what is here. A record is 16 bytes, a hash of an item's hash
part and NarHash; it says that this very content was fetched from a server that anybody may ask. In
another file something stands behind it, as the read capability that the narinfo signed.

A record is appended in one write. One that was cut off by a crash is passed over, and when there
are too many the older half goes. Who cannot write does without: the next fetch notes more.

All functions may be called by several processes at once.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from guix_glue.local.files import read_file, replace_file

__all__ = ["MOST_ITEMS", "PublicItems", "item_mark"]

_log = logging.getLogger(__name__)

MARK_SIZE: Final = 16
MOST_ITEMS: Final = 500_000
"""8 MB; what is over is about items that have long been deleted."""


def item_mark(hash_part: str, nar_hash: bytes) -> bytes:
    """What stands for an item: 16 bytes, by its hash part and the SHA-256 of its nar."""
    return sha256(hash_part.encode("ascii") + nar_hash).digest()[:MARK_SIZE]


class PublicItems:
    """The file at `path`, which need not be there; at most `most` items are in it.

    `noted`: how many bytes are noted of each, beside that it is public.
    """

    def __init__(self, path: Path, *, noted: int = 0, most: int = MOST_ITEMS) -> None:
        self._path = path
        self._size = MARK_SIZE + noted
        self._most = most

    def stamp(self) -> tuple[int, int, int] | None:
        """Is another when there is something new."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read(self) -> frozenset[bytes]:
        """The marks of all that are known. Never fails."""
        return frozenset(self.read_all())

    def read_all(self) -> dict[bytes, bytes]:
        """What was noted last of all that are known, by their marks. Never fails."""
        try:
            data = read_file(self._path, 4 * self._most * self._size)
        except OSError as error:
            if error.errno != errno.ENOENT:
                _log.warning("%s cannot be read: %s", self._path, error.strerror)
            return {}
        size = self._size
        whole = len(data) - len(data) % size
        return {
            data[at : at + MARK_SIZE]: data[at + MARK_SIZE : at + size]
            for at in range(0, whole, size)
        }

    def note(self, hash_part: str, nar_hash: bytes, noted: bytes = b"") -> None:
        """Note an item. Never fails."""
        assert len(noted) == self._size - MARK_SIZE
        try:
            self._append(item_mark(hash_part, nar_hash) + noted)
        except OSError as error:
            _log.debug("%s cannot be written: %s", self._path, error.strerror)

    def _append(self, record: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o644)
        try:
            # Only among those who write: nobody holds it for long.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if not size:
                _open_to_all(descriptor)
            os.write(descriptor, bytes(-size % self._size) + record)
            if size >= self._most * self._size:
                self._shorten(descriptor, size)
        finally:
            os.close(descriptor)

    def _shorten(self, descriptor: int, size: int) -> None:
        """Keep the newer half, in a file that takes the place of this one."""
        start = size // 2 - size // 2 % self._size
        replace_file(self._path, os.pread(descriptor, size, start), 0o644)


def _open_to_all(descriptor: int) -> None:
    """Let others read it, whatever is usual for who writes: who gives items on is another user."""
    # It was there, and is somebody else's.
    with suppress(PermissionError):
        os.fchmod(descriptor, 0o644)

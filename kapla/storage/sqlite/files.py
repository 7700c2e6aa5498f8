"""The store's files as the system sees them: of which kind they are, and whether they are ours.

A file that somebody removed or replaced can still be written to by whoever has it open, and all of
that is gone with the last process that has. So the files that SQLite opened are known by device and
inode, learnt from this process's own descriptors, and compared with what stands at their paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

from kapla.errors import StorageError

__all__ = ["StoreFiles", "check_kind", "sync_names"]

_OWN_DESCRIPTORS: Final = Path("/proc/self/fd")
_KINDS: Final = (
    (stat.S_ISDIR, "Is a directory"),
    (stat.S_ISFIFO, "Is a named pipe"),
    (stat.S_ISSOCK, "Is a socket"),
    (stat.S_ISCHR, "Is a device"),
    (stat.S_ISBLK, "Is a device"),
)

_Identity = tuple[int, int]


def check_kind(path: Path) -> None:
    """See that a path names a regular file, or nothing yet.

    Raises: StorageError.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise StorageError(f"cannot open the store {path}: {name}")
    if found.st_nlink > 1:
        raise StorageError(f"the store {path} has another name, by which it may be in use too")


def sync_names(path: Path) -> None:
    """Have the names of a store's files outlive a power cut, as what is in them does.

    SQLite does so too, but does not look whether it succeeds.
    Raises: StorageError.
    """
    try:
        directory = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        # Some file systems know no such thing.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise StorageError(f"its directory cannot be written: {error.strerror}") from error


class StoreFiles:
    """The database file and its WAL, while they are open."""

    def __init__(self, path: Path) -> None:
        """Learn which files this process has open: after SQLite has opened both."""
        # As SQLite does: the WAL lies beside the file itself, not beside a symlink to it.
        self._path = os.path.realpath(path)
        self._wal_path = self._path + "-wal"
        self._file = _only(_opened(self._path) or _named(self._path))
        self._wal = _only(_opened(self._wal_path) or _named(self._wal_path))
        self.file_bytes = 0
        """The size of the database file when it was last looked at."""
        self.wal_bytes = 0
        """The size of the WAL when it was last looked at."""

    def are_ours(self) -> bool:
        """Whether both still stand at their paths, and nothing else in their place."""
        try:
            file, wal = os.stat(self._path), os.stat(self._wal_path)
        except OSError:
            return False
        self.file_bytes, self.wal_bytes = file.st_size, wal.st_size
        return (file.st_dev, file.st_ino) == self._file and (wal.st_dev, wal.st_ino) == self._wal


def _only(identities: frozenset[_Identity]) -> _Identity | None:
    """One file; none if it was replaced while it was opened, and nobody knows which is ours."""
    return next(iter(identities)) if len(identities) == 1 else None


def _opened(name: str) -> frozenset[_Identity]:
    """Which files this process has opened by this name: more than one, if it was replaced."""
    wanted = {os.fsencode(name), os.fsencode(name) + b" (deleted)"}
    found = set()
    if not _OWN_DESCRIPTORS.is_dir():
        return frozenset()
    for descriptor in os.listdir(_OWN_DESCRIPTORS):
        try:
            if os.readlink(os.fsencode(_OWN_DESCRIPTORS / descriptor)) in wanted:
                status = os.fstat(int(descriptor))
                found.add((status.st_dev, status.st_ino))
        except OSError:
            continue  # closed meanwhile
    return frozenset(found)


def _named(name: str) -> frozenset[_Identity]:
    """Without /proc: what stands at the path now."""
    with contextlib.suppress(OSError):
        status = os.stat(name)
        return frozenset({(status.st_dev, status.st_ino)})
    return frozenset()

"""One program at a time has a store: two daemons would count past each other.

The lock is the system's, on a file beside the store, which says who has it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kapla.errors import StorageError
from kapla.storage.sqlite.files import check_kind
from kapla.storage.sqlite.holder import Holder, note_holder, read_holder

__all__ = ["InUse", "lock_store", "locked"]


class InUse(StorageError):
    """Another program has the store; `holder` is which."""

    def __init__(self, message: str, holder: Holder) -> None:
        super().__init__(message)
        self.holder = holder


def lock_store(path: Path, holder: Holder | None = None) -> int:
    """Hold the store for this process, until the descriptor that it returns is closed.

    `holder`: who that is, for others. Raises: StorageError; InUse, if another one has it.
    """
    path = _real(path)
    check_kind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = _open_lock(path)
    except OSError as error:
        raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
    _hold(descriptor, path, _is_taken)
    note_holder(descriptor, holder or Holder())
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a store that is there, so that no daemon begins to use it meanwhile.

    Raises: StorageError.
    """
    path = _real(path)
    check_kind(path)
    if not path.exists():
        raise StorageError(f"there is no store {path}")
    try:
        descriptor = _open_lock(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise StorageError(f"cannot lock the store {path}: {error.strerror}") from error
        # Where nobody can write, nobody does.
        yield
        return
    _hold(descriptor, path, "{1} is using the store {0}: stop it first".format)
    try:
        yield
    finally:
        os.close(descriptor)


def _real(path: Path) -> Path:
    # Beside the file itself: a symlink must not lead a second daemon past the lock.
    return Path(os.path.realpath(path))


def _open_lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        # Root must not lock out whose store it is, as SQLite sees to it with its own files.
        with suppress(OSError):
            owner = os.stat(path)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _is_taken(path: Path, holder: Holder) -> str:
    kind = "daemon" if holder.program in (None, "kaplad") else "program"
    return f"another {kind} is using the store {path}: {holder}"


def _hold(descriptor: int, path: Path, taken: Callable[[Path, Holder], str]) -> None:
    """Take the lock, or close the descriptor. Raises: StorageError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = read_holder(descriptor)
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise InUse(taken(path, holder), holder) from None
        raise StorageError(f"cannot lock the store {path}: {error.strerror}") from error

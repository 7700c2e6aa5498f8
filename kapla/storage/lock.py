"""One program at a time has a store: two daemons would count past each other."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kapla.errors import StorageError
from kapla.storage.files import check_kind

__all__ = ["lock_store", "locked"]


def lock_store(path: Path) -> int:
    """Hold the store for this process, until the descriptor that it returns is closed.

    Raises: StorageError.
    """
    path = _real(path)
    check_kind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = _open_lock(path)
    except OSError as error:
        raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
    return _hold(descriptor, path, "another daemon is using the store {}")


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
    _hold(descriptor, path, "a daemon is using the store {}: stop it first")
    try:
        yield
    finally:
        os.close(descriptor)


def _real(path: Path) -> Path:
    # Beside the file itself: a symlink must not lead a second daemon past the lock.
    return Path(os.path.realpath(path))


def _open_lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _hold(descriptor: int, path: Path, taken: str) -> int:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StorageError(taken.format(path)) from None
        raise StorageError(f"cannot lock the store {path}: {error.strerror}") from error
    return descriptor

"""A new database file that appears at its path when it is whole, and never in another's place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kapla.errors import StorageError

__all__ = ["placing"]


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give an empty file (0600) beside `path` to fill; put it there if all went well.

    Raises: StorageError, if there is something at `path`, or it cannot be made.
    """
    _check_nothing_at(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except OSError as error:
        raise StorageError(f"cannot make {path}: {error.strerror}") from error
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        try:
            _put(partial, path)
        except OSError as error:
            raise StorageError(f"cannot make {path}: {error.strerror}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name + suffix)


def _check_nothing_at(path: Path) -> None:
    # A WAL that is left of another file would be taken for this one's.
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.lexists(f"{path}{suffix}"):
            raise StorageError(f"{path}{suffix} exists already, and is left as it is")


def _put(partial: Path, path: Path) -> None:
    _sync(partial)
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no second names.
        _check_nothing_at(path)
        os.rename(partial, path)
    else:
        os.unlink(partial)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

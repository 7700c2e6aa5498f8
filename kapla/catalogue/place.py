"""Where the catalogue is, and that nobody else can reach it.

A directory of its own, 0700, with a file of mode 0600: so nobody can put something in the way of
the names that SQLite will open in it. What has become readable for others is closed to them again;
what belongs to somebody else, or is a symlink, is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kapla.catalogue.errors import CatalogueDamaged, CatalogueUnusable
from kapla.user_paths import user_path

__all__ = [
    "check_directory",
    "check_file",
    "default_path",
    "make_directory",
    "only_one",
    "unusable",
]

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022


def default_path() -> Path:
    """Where this user's catalogue is: never where the daemon keeps its store.

    Raises: CatalogueUnusable, if the user has no home.
    """
    directory = user_path("data", "kapla-client")
    if directory is None:
        raise CatalogueUnusable("there is no home directory, nor $XDG_DATA_HOME, to keep it in")
    return directory / "catalogue.sqlite"


def make_directory(directory: Path) -> None:
    """Make the directory, if it is not there, and those above it.

    Raises: CatalogueUnusable.
    """
    try:
        _make(directory)
    except OSError as error:
        raise unusable(directory, error) from error


def check_directory(directory: Path) -> None:
    """See that the directory is for its owner alone.

    Raises: FileNotFoundError, CatalogueUnusable.
    """
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(directory, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        _close_to_others(descriptor, directory, forbidden=_OTHERS_WRITE, mode=0o700)
    finally:
        os.close(descriptor)


def _make(directory: Path) -> None:
    """Make a directory and those above it, 0700, as the XDG specification asks.

    Raises: OSError; so root, with the HOME of a user, makes nothing that is in that user's way.
    """
    if directory.is_dir():
        return
    parent = directory.parent
    _make(parent)
    if parent.stat().st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "belongs to somebody else", str(parent))
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)


def check_file(path: Path) -> None:
    """See that the catalogue is a file of ours, and for us alone.

    Raises: FileNotFoundError; CatalogueUnusable; CatalogueDamaged, if nothing is in it.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CatalogueUnusable(f"{path} is not a file")
        _close_to_others(descriptor, path, forbidden=0, mode=0o600)
        if not found.st_size:
            # It is put in place with its tables, so this one was cut short.
            raise CatalogueDamaged(f"{path} is empty")
    finally:
        os.close(descriptor)


def _close_to_others(descriptor: int, path: Path, *, forbidden: int, mode: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise CatalogueUnusable(f"{path} belongs to somebody else")
    if found.st_mode & forbidden:
        raise CatalogueUnusable(f"{path} can be written to by others: chmod {mode:o}")
    if found.st_mode & _OTHERS:
        with contextlib.suppress(OSError):  # a read-only file system
            os.fchmod(descriptor, mode)


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Have the directory to oneself, among those who make a catalogue or set one aside.

    Raises: CatalogueUnusable.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        # Some network file systems lock no directories: then two at once may do it twice.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unusable(path: Path, error: OSError) -> CatalogueUnusable:
    """What to say of a file or directory that the system does not let us use."""
    name = error.filename if isinstance(error.filename, str) else str(path)
    if os.path.islink(name):
        return CatalogueUnusable(f"{name} is a symlink")
    return CatalogueUnusable(f"{name}: {error.strerror or error}")

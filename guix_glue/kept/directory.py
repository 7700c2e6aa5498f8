"""The cache directory: one version of one layout, for one server at a time.

    v1/lock    held by the server that writes here
    v1/tmp/    what is being made; emptied at every start

Nothing gets its name before it is whole and on disk: a server that is killed at any instant leaves
only things in `tmp`. What is removed while a server runs, by whom it may be, is made again when it
is needed, the lock included; something else in its place is left to whoever put it there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from guix_glue.errors import PublishError
from guix_glue.local.files import replace_file
from guix_glue.local.restore import remove_item

__all__ = [
    "CacheDirectory",
    "make_cache_directory",
    "make_open_directory",
    "make_private_directory",
]

_T = TypeVar("_T")

_VERSION: Final = "v1"


def make_cache_directory(directory: Path, owner: tuple[int, int] | None = None) -> None:
    """Make the cache directory, as far as it is missing.

    With `owner`, the user and group who will write, only what belongs to the layout becomes theirs.
    The directory around it may be anybody's, and one that a service manager made stays root's.
    Raises: PublishError.
    """
    layout = directory / _VERSION
    try:
        with _open_to_all():
            directory.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            layout.mkdir()
            if owner is not None:
                _give(layout, owner)
        if owner is not None and layout.stat().st_uid != owner[0]:
            raise PublishError(
                f"the cache directory {layout} is of another user than --user names: give it to"
                " them (chown -R), or remove it"
            )
    except OSError as error:
        raise PublishError(
            f"cannot make the cache directory {directory}: {error.strerror}; --cache names another"
        ) from error


def make_open_directory(directory: Path, owner: tuple[int, int] | None = None) -> None:
    """Make a directory that others may read in, of `owner` if that is given.

    Raises: OSError.
    """
    with _open_to_all(), contextlib.suppress(FileExistsError):
        directory.mkdir()
        if owner is not None:
            _give(directory, owner)


def make_private_directory(directory: Path, owner: tuple[int, int] | None = None) -> None:
    """Make a directory that nobody else may read, of `owner` if that is given.

    One that is there is left as it is: who may put a symlink there would be given what it leads to.
    Raises: OSError, with EACCES for one of another user than `owner`.
    """
    with _open_to_all():
        directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
        if owner is not None:
            _give(directory, owner)
    except FileExistsError:
        if owner is not None and directory.stat().st_uid != owner[0]:
            reason = "it is of another user: give it to them (chown -R), or remove it"
            raise PermissionError(errno.EACCES, reason, str(directory)) from None


@contextlib.contextmanager
def _open_to_all() -> Iterator[None]:
    """Let others pass through what is made here: whoever will write is not its owner."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _give(path: Path, owner: tuple[int, int]) -> None:
    """Change the owner of a new directory, and of nothing that somebody put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, *owner)
    finally:
        os.close(descriptor)


class CacheDirectory:
    """The directory, opened for this process. `close()` it.

    Raises: PublishError, if it cannot be written, or another server uses it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / _VERSION
        self._temporary = self.path / "tmp"
        self._mending = threading.Lock()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
        except OSError as error:
            raise _unusable(directory, error) from error
        try:
            # Items that were being unpacked have directories that cannot be written to.
            remove_item(str(self._temporary))
            self._temporary.mkdir()
        except OSError as error:
            os.close(self._lock)
            raise _unusable(directory, error) from error

    def close(self) -> None:
        """Let other servers use it."""
        os.close(self._lock)

    def subdirectory(self, name: str) -> Path:
        """A part of the layout, made when missing.

        Raises: PublishError.
        """
        path = self.path / name
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise _unusable(self.path.parent, error) from error
        return path

    def temporary(self) -> Path:
        """A new directory to make things in; whoever asks removes it.

        Raises: OSError.
        """
        return self._mended(lambda: Path(tempfile.mkdtemp(dir=self._temporary)))

    def new_name(self) -> Path:
        """A name in `tmp` that nobody else has; whoever makes something there removes it."""
        return self._temporary / f"new.{os.urandom(8).hex()}"

    def create(self, path: Path) -> BinaryIO:
        """Make a file of such a name, to be written and read; without a buffer.

        Raises: OSError.
        """
        return self._mended(lambda: path.open("x+b", buffering=0))

    def create_directory(self, path: Path) -> None:
        """Make a directory of such a name.

        Raises: OSError.
        """
        self._mended(lambda: path.mkdir(mode=0o700))

    def write(self, path: Path, data: bytes) -> None:
        """Replace a small file below this directory, all at once.

        Raises: OSError.
        """
        self._mended(lambda: self._write(path, data), path.parent)

    def take(self, made: Path, path: Path) -> None:
        """Give a file that was made in a temporary directory its name, once it is on disk.

        Raises: OSError.
        """
        _sync(made)
        try:
            self._mended(lambda: os.replace(made, path), path.parent)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Somebody has put a part of the cache on a file system of its own.
            copy = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
            try:
                shutil.copyfile(made, copy)
                _sync(copy)
                os.replace(copy, path)
            finally:
                copy.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            replace_file(path, data, 0o600, through=self._temporary)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            replace_file(path, data, 0o600)

    def _mended(self, act: Callable[[], _T], *needed: Path) -> _T:
        """Do something; if a part of the layout is missing, once more when it is there again."""
        try:
            return act()
        except FileNotFoundError:
            with self._mending:
                self._mend(needed)
            return act()

    def _mend(self, needed: Sequence[Path]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not _is_at(self._lock, self.path / "lock"):
            lock = _locked(self.path)
            os.close(self._lock)
            self._lock = lock
        for path in (self._temporary, *needed):
            path.mkdir(parents=True, exist_ok=True)


def _locked(layout: Path) -> int:
    """The lock, held.

    Raises: OSError; BlockingIOError, if another server holds it.
    """
    lock = os.open(layout / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            reason = "another server is using it; give this one a --cache of its own"
            raise BlockingIOError(error.errno, reason, str(layout)) from error
        raise
    return lock


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a file that is open is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(directory: Path, error: OSError) -> PublishError:
    return PublishError(f"cannot use the cache directory {directory}: {error.strerror}")

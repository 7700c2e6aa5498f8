"""File system to tree, without contents: walks a directory and says what is there.

One directory after the other, in order of names, each held open while its entries are visited and
everything looked up relative to it, so that nothing moved or replaced meanwhile leads elsewhere.
Symlinks are never followed. Files come out open, their size and times noted; whoever reads one has
it compare these again at the end, so that a file that changed under the reader is noticed.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Final, NamedTuple, NoReturn, Self

from eris_fs.errors import FileChanged, NotUtf8, TreeTooLarge, UnsafePath, UnsupportedEntry
from eris_fs.exclude import Exclude
from eris_fs.model import DEFAULT_LIMITS, EmptyDirectory, Limits, Path, Symlink
from eris_fs.paths import UTF8_ERRORS, check_path_size
from eris_fs.stamp import Stamp, settled_status

__all__ = ["Found", "OpenFile", "TreeSize", "measure_tree", "scan_tree"]

# O_NONBLOCK: a fifo put in a file's place must not block us; it says nothing about real files.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_UNREADABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO})
# What opening says when something else is there than a moment ago.
_MOVED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})

_KINDS: Final = (
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISBLK, "it is a block device"),
    (stat.S_ISCHR, "it is a character device"),
)


class OpenFile:
    """A regular file that was opened, and what it was like then. Close it, or use `with`.

    `executable` is the owner's x bit, `size` is in bytes, `path` is for messages.
    """

    __slots__ = ("_descriptor", "_read", "_stamp", "executable", "path", "size")

    def __init__(self, descriptor: int, path: str, found: os.stat_result) -> None:
        self._descriptor = descriptor
        self._stamp = Stamp.of(found)
        self._read = 0
        self.path = path
        self.size = found.st_size
        self.executable = bool(found.st_mode & stat.S_IXUSR)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._descriptor < 0

    def read(self, limit: int) -> bytes:
        """Read the next bytes, up to `limit`; none at the end, once all is known to be well.

        Raises: FileChanged; UnsupportedEntry, if it cannot be read.
        """
        try:
            data = os.read(self._descriptor, limit)
        except OSError as error:
            _explain(error, self.path)
        self._read += len(data)
        if self._read > self.size:
            raise FileChanged(self.path, "it grew")
        if not data:
            self._verify()
        return data

    def read_all(self) -> bytes:
        """Read the whole file, for one that is small.

        Raises: FileChanged; UnsupportedEntry, if it cannot be read.
        """
        # One byte more than there should be shows a file that grew.
        data = self.read(self.size + 1)
        if len(data) == self.size:
            # The usual case: the end need not be read to be known.
            if data:
                self._verify()
            return data
        pieces = [data]
        while data := self.read(self.size + 1):
            pieces.append(data)
        return b"".join(pieces)

    def rewind(self) -> None:
        """Read from the beginning again."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._read = 0

    def _verify(self) -> None:
        change = self._stamp.change(Stamp.of(os.fstat(self._descriptor)))
        if change is None and self._read != self.size:
            change = f"only {self._read} of {self.size} bytes were there"
        if change is not None:
            raise FileChanged(self.path, change)

    def close(self) -> None:
        """Close it; again is harmless."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


Found = OpenFile | Symlink | EmptyDirectory
"""What a scan comes upon."""


class TreeSize(NamedTuple):
    """How much there is to encode: regular files, and their bytes."""

    files: int
    size: int


class _Directory(NamedTuple):
    """A directory being walked: its descriptor, its path in the tree, what is left, last first."""

    descriptor: int
    path: Path
    entries: list[os.DirEntry[str]]


def scan_tree(
    root: str | os.PathLike[str],
    limits: Limits = DEFAULT_LIMITS,
    *,
    any_bytes: bool = False,
    exclude: Exclude | None = None,
) -> Generator[tuple[Path, Found], None, None]:
    """Walk the tree at `root`; gives each file, symlink and empty directory with its path.

    A root that is a file or a symlink is the one entry, at `()`; an empty root gives none. The
    order is always the same: in each directory that of the names' bytes. `any_bytes` lets names and
    targets be no UTF-8; they come as `surrogateescape` has them. Entries below the root that
    `exclude` names are left out as if they were not there: neither opened, entered nor counted,
    whatever they are. Whoever takes an `OpenFile` closes it; close the generator if it is not
    exhausted.
    Raises: UnsupportedEntry, naming a device, socket or pipe or what cannot be read, and NotUtf8;
    FileChanged; TreeTooLarge; OSError, if there is nothing at `root`.
    """
    base = os.fspath(root)
    mode = os.lstat(base).st_mode
    if stat.S_ISDIR(mode):
        yield from _walk(base, limits, UTF8_ERRORS[any_bytes], exclude)
    elif stat.S_ISLNK(mode):
        yield (), _read_symlink(base, None, base, UTF8_ERRORS[any_bytes])
    else:
        _check_kind(mode, base)
        yield (), _open_file(base, None, base)


def measure_tree(
    root: str | os.PathLike[str],
    limits: Limits = DEFAULT_LIMITS,
    *,
    any_bytes: bool = False,
    exclude: Exclude | None = None,
) -> TreeSize:
    """Count what encoding would read, meeting beforehand most errors that it would meet.

    Raises: as `scan_tree`.
    """
    files = size = 0
    for _, found in scan_tree(root, limits, any_bytes=any_bytes, exclude=exclude):
        if isinstance(found, OpenFile):
            found.close()
            files += 1
            size += found.size
    return TreeSize(files, size)


def _walk(
    base: str, limits: Limits, errors: str, exclude: Exclude | None
) -> Iterator[tuple[Path, Found]]:
    count = 0
    stack = [_open_directory(base, None, (), base, exclude)]
    top = base.rstrip("/")
    try:
        while stack:
            parent, path, entries = stack[-1]
            if not entries:
                stack.pop()
                os.close(parent)
                continue
            entry = entries.pop()
            where = "/".join((top, *path, entry.name))
            child = _child(path, entry.name, where, limits, errors)
            count += 1
            if count > limits.entries:
                raise TreeTooLarge("files and directories", limits.entries)
            if not entry.is_dir(follow_symlinks=False):
                yield child, _look_at(entry, parent, where, errors)
                continue
            stack.append(_open_directory(entry.name, parent, child, where, exclude))
            if not stack[-1].entries:
                yield child, EmptyDirectory()
    finally:
        for directory in stack:
            os.close(directory.descriptor)


def _look_at(entry: os.DirEntry[str], parent: int, where: str, errors: str) -> Found:
    if entry.is_file(follow_symlinks=False):
        return _open_file(entry.name, parent, where)
    if entry.is_symlink():
        return _read_symlink(entry.name, parent, where, errors)
    try:
        _check_kind(entry.stat(follow_symlinks=False).st_mode, where)
    except OSError as error:
        _explain(error, where)
    raise FileChanged(where, "it became another kind of file")


def _open_directory(
    name: str, parent: int | None, path: Path, where: str, exclude: Exclude | None
) -> _Directory:
    try:
        descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
    except OSError as error:
        _explain(error, where)
    try:
        with os.scandir(descriptor) as found:
            wanted = found if exclude is None else _wanted(found, path, exclude)
            entries = sorted(wanted, key=_raw_name, reverse=True)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            _explain(error, where)
        raise
    return _Directory(descriptor, path, entries)


def _wanted(
    found: Iterable[os.DirEntry[str]], path: Path, exclude: Exclude
) -> Iterator[os.DirEntry[str]]:
    for entry in found:
        name = _raw_name(entry).decode("utf-8", "surrogateescape")
        if not exclude((*path, name), entry.is_dir(follow_symlinks=False)):
            yield entry


def _open_file(name: str, parent: int | None, where: str) -> OpenFile:
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=parent)
    except OSError as error:
        _explain(error, where)
    try:
        found = settled_status(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileChanged(where, "it became another kind of file")
        return OpenFile(descriptor, where, found)
    except BaseException:
        os.close(descriptor)
        raise


def _raw_name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def _read_symlink(name: str, parent: int | None, where: str, errors: str) -> Symlink:
    try:
        target = os.readlink(name, dir_fd=parent)
    except OSError as error:
        # EINVAL: no symlink any more.
        if error.errno == errno.EINVAL:
            raise FileChanged(where, "it became another kind of file") from error
        _explain(error, where)
    try:
        return Symlink(os.fsencode(target).decode("utf-8", errors))
    except UnicodeDecodeError:
        raise NotUtf8(where, "it is a symlink whose target is not UTF-8") from None


def _child(path: Path, name: str, where: str, limits: Limits, errors: str) -> Path:
    """Extend a path by a file name, which the system may know in another encoding than ours."""
    try:
        child = (*path, os.fsencode(name).decode("utf-8", errors))
        check_path_size(child, limits)
    except UnicodeDecodeError:
        raise NotUtf8(where, "its name is not UTF-8") from None
    except UnsafePath as error:
        raise UnsupportedEntry(where, error.reason) from None
    return child


def _check_kind(mode: int, where: str) -> None:
    for is_kind, reason in _KINDS:
        if is_kind(mode):
            raise UnsupportedEntry(where, reason)


def _explain(error: OSError, where: str) -> NoReturn:
    """Raise what an error of the file system means for a file."""
    if error.errno in _UNREADABLE:
        raise UnsupportedEntry(where, f"it cannot be read: {os.strerror(error.errno)}") from error
    if error.errno in _MOVED:
        raise FileChanged(where, "it vanished or was replaced") from error
    raise OSError(error.errno, os.strerror(error.errno or 0), where) from error

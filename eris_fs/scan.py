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
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from eris_fs.errors import (
    FileChanged,
    NotAFile,
    NotUtf8,
    TreeError,
    TreeTooLarge,
    UnsafePath,
    UnsupportedEntry,
)
from eris_fs.model import DEFAULT_LIMITS, EmptyDirectory, Limits, Path, Symlink
from eris_fs.open_file import OpenFile, explain
from eris_fs.paths import UTF8_ERRORS, check_path, check_path_size
from eris_fs.selection import EVERYTHING, ForbiddenFile, Selection
from eris_fs.stamp import settled_status

__all__ = [
    "FileFacts",
    "Found",
    "OpenFile",
    "Root",
    "TreeSize",
    "look_through_tree",
    "measure_tree",
    "scan_tree",
]

_F = TypeVar("_F")


# O_NONBLOCK: a fifo put in a file's place must not block us; it says nothing about real files.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_KINDS: Final = (
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISBLK, "it is a block device"),
    (stat.S_ISCHR, "it is a character device"),
)

Root = str | os.PathLike[str] | Mapping[str, str]
"""What is to become a tree: one path, or several, each by its name in the tree."""

Found = OpenFile | Symlink | EmptyDirectory
"""What a scan comes upon."""


class FileFacts(NamedTuple):
    """What is told of a regular file that nobody opened: bytes, and the owner's x bit."""

    size: int
    executable: bool


class TreeSize(NamedTuple):
    """How much there is to encode: regular files, and their bytes."""

    files: int
    size: int


def scan_tree(
    root: Root,
    limits: Limits = DEFAULT_LIMITS,
    *,
    any_bytes: bool = False,
    selection: Selection = EVERYTHING,
) -> Generator[tuple[Path, Found], None, None]:
    """Walk the tree at `root`; gives each file, symlink and empty directory with its path.

    A root that is a file or a symlink is the one entry, at `()`; an empty root gives none. Of
    several roots each is at its name. The order is always the same: in each directory that of the
    names' bytes. `any_bytes` lets names and targets be no UTF-8; they come as `surrogateescape` has
    them. Entries below a root that are not selected are left out as if they were not there: neither
    opened, entered nor counted, whatever they are. Whoever takes an `OpenFile` closes it; close the
    generator if it is not exhausted.
    Raises: UnsupportedEntry, naming a device, socket or pipe or what cannot be read, and NotUtf8;
    FileChanged; TreeTooLarge; UnsafePath, for a root by a name that is none; OSError, if there is
    nothing at a root.
    """
    scan = _Scan(_open_file, limits, UTF8_ERRORS[any_bytes], selection)
    if isinstance(root, Mapping):
        for name in sorted(root, key=os.fsencode):
            path = scan.child((), name, root[name])
            check_path(path, limits, any_bytes=any_bytes)
            scan.count()
            try:
                yield from scan.run(root[name], path)
            except TreeError as error:
                # One of several is an entry like those in a directory.
                if not selection.skips(error):
                    raise
    else:
        yield from scan.run(os.fspath(root), ())


def look_through_tree(
    root: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS
) -> Generator[tuple[Path, FileFacts | Symlink | EmptyDirectory], None, None]:
    """As `scan_tree` of one root with `any_bytes`, but no file is opened: far less for the system.

    Raises: as `scan_tree`; a file that cannot be read is none of its errors.
    """
    scan = _Scan(_tell_of_file, limits, UTF8_ERRORS[True], EVERYTHING)
    yield from scan.run(os.fspath(root), ())


def measure_tree(
    root: Root,
    limits: Limits = DEFAULT_LIMITS,
    *,
    any_bytes: bool = False,
    selection: Selection = EVERYTHING,
) -> TreeSize:
    """Count what encoding would read, meeting beforehand most errors that it would meet.

    Raises: as `scan_tree`.
    """
    files = size = 0
    for _, found in scan_tree(root, limits, any_bytes=any_bytes, selection=selection):
        if isinstance(found, OpenFile):
            found.close()
            files += 1
            size += found.size
    return TreeSize(files, size)


@dataclass(slots=True)
class _Directory:
    """A directory being walked: its descriptor, its path in the tree, what is left, last first."""

    descriptor: int
    path: Path
    device: int
    entries: list[os.DirEntry[str]]
    is_empty: bool = True
    """Whether nothing of it was taken so far."""


class _Scan(Generic[_F]):
    """One scan: how it is done, and how far it has come.

    `take` makes of a file what is given of it: its name, the directory it is in (None: the name is
    a path), and what messages call it.
    """

    def __init__(
        self,
        take: Callable[[str, int | None, str], _F],
        limits: Limits,
        errors: str,
        selection: Selection,
    ) -> None:
        self._take = take
        self._limits = limits
        self._errors = errors
        self._selection = selection
        self._count = 0
        # The path of the root in the tree.
        self._top: Path = ()

    def run(self, base: str, path: Path) -> Iterator[tuple[Path, _F | Symlink | EmptyDirectory]]:
        """Walk what is at `base`, which is at `path` in the tree."""
        self._top = path
        mode = os.lstat(base).st_mode
        if stat.S_ISDIR(mode):
            yield from self._walk(base)
        elif stat.S_ISLNK(mode):
            yield path, self._read_symlink(base, None, base)
        else:
            _check_kind(mode, base)
            yield path, self._take(base, None, base)

    def count(self) -> None:
        """Count an entry. Raises: TreeTooLarge."""
        self._count += 1
        if self._count > self._limits.entries:
            raise TreeTooLarge("files and directories", self._limits.entries)

    def child(self, path: Path, name: str, where: str) -> Path:
        """Extend a path by a file name, which the system may know in another encoding than ours."""
        try:
            child = (*path, os.fsencode(name).decode("utf-8", self._errors))
            check_path_size(child, self._limits)
        except UnicodeDecodeError:
            raise NotUtf8(where, "its name is not UTF-8") from None
        except UnsafePath as error:
            raise UnsupportedEntry(where, error.reason) from None
        return child

    def _walk(self, base: str) -> Iterator[tuple[Path, _F | Symlink | EmptyDirectory]]:
        stack = [self._enter(base, None, self._top, base)]
        top = base.rstrip("/")
        try:
            while stack:
                directory = stack[-1]
                if not directory.entries:
                    stack.pop()
                    os.close(directory.descriptor)
                    if directory.is_empty and directory.path:
                        yield directory.path, EmptyDirectory()
                    continue
                entry = directory.entries.pop()
                where = "/".join((top, *directory.path[len(self._top) :], entry.name))
                path = self.child(directory.path, entry.name, where)
                self.count()
                found: _F | Symlink | _Directory
                try:
                    if entry.is_dir(follow_symlinks=False):
                        found = self._enter(entry.name, directory, path, where)
                    else:
                        found = self._look_at(entry, directory.descriptor, where)
                except TreeError as error:
                    if not self._selection.skips(error):
                        raise
                    continue
                directory.is_empty = False
                if isinstance(found, _Directory):
                    stack.append(found)
                else:
                    yield path, found
        finally:
            for directory in stack:
                os.close(directory.descriptor)

    def _look_at(self, entry: os.DirEntry[str], parent: int, where: str) -> _F | Symlink:
        if entry.is_file(follow_symlinks=False):
            return self._take(entry.name, parent, where)
        if entry.is_symlink():
            return self._read_symlink(entry.name, parent, where)
        try:
            _check_kind(entry.stat(follow_symlinks=False).st_mode, where)
        except OSError as error:
            explain(error, where)
        raise FileChanged(where, "it became another kind of file")

    def _enter(self, name: str, parent: _Directory | None, path: Path, where: str) -> _Directory:
        try:
            descriptor = os.open(
                name, _DIRECTORY_FLAGS, dir_fd=None if parent is None else parent.descriptor
            )
        except OSError as error:
            explain(error, where)
        try:
            return self._listed(descriptor, parent, path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                explain(error, where)
            raise

    def _listed(self, descriptor: int, parent: _Directory | None, path: Path) -> _Directory:
        device = os.fstat(descriptor).st_dev if self._selection.one_file_system else 0
        if parent is not None and device != parent.device:
            return _Directory(descriptor, path, device, [])
        with os.scandir(descriptor) as found:
            entries = sorted(self._wanted(found, descriptor, path), key=_raw_name, reverse=True)
        return _Directory(descriptor, path, device, entries)

    def _wanted(
        self, found: Iterator[os.DirEntry[str]], descriptor: int, path: Path
    ) -> Iterator[os.DirEntry[str]]:
        exclude, forbidden = self._selection.exclude, self._selection.forbidden
        if exclude is None and forbidden is None:
            yield from found
            return
        below = path[len(self._top) :]
        names: Mapping[str, ForbiddenFile] = {}
        if forbidden is not None:
            names = forbidden.names_in(descriptor)
        for entry in found:
            if exclude is not None:
                name = _raw_name(entry).decode("utf-8", "surrogateescape")
                if exclude((*below, name), entry.is_dir(follow_symlinks=False)):
                    continue
            if forbidden is None or not forbidden.meets(entry, names):
                yield entry

    def _read_symlink(self, name: str, parent: int | None, where: str) -> Symlink:
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError as error:
            # EINVAL: no symlink any more.
            if error.errno == errno.EINVAL:
                raise FileChanged(where, "it became another kind of file") from error
            explain(error, where)
        try:
            return Symlink(os.fsencode(target).decode("utf-8", self._errors))
        except UnicodeDecodeError:
            raise NotUtf8(where, "it is a symlink whose target is not UTF-8") from None


def _open_file(name: str, parent: int | None, where: str) -> OpenFile:
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=parent)
    except OSError as error:
        explain(error, where)
    try:
        found = settled_status(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileChanged(where, "it became another kind of file")
        return OpenFile(descriptor, where, found)
    except BaseException:
        os.close(descriptor)
        raise


def _tell_of_file(name: str, parent: int | None, where: str) -> FileFacts:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        explain(error, where)
    if not stat.S_ISREG(found.st_mode):
        raise FileChanged(where, "it became another kind of file")
    return FileFacts(found.st_size, bool(found.st_mode & stat.S_IXUSR))


def _raw_name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def _check_kind(mode: int, where: str) -> None:
    for is_kind, reason in _KINDS:
        if is_kind(mode):
            raise NotAFile(where, reason)

"""Events of a nar to a store item, in the form that the store has: 0444 or 0555, and second 1.

Runs as root, on what a stranger sent. Nothing is ever named to the kernel but one component,
relative to a directory that we made and hold open; names are checked here again; everything is
created and never opened if it is there. So no path leads out of the target, and no symlink is
walked through.

The order of a nar is that of a walk: only the directories from the target to the current entry are
open. One is given its mode and time when the walk leaves it, since making entries changes both.
Modes are set on descriptors, and so do not depend on the umask.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, assert_never

from eris_fs import remove_tree
from guix_glue.errors import FetchFailed
from guix_glue.formats.nar import Data, Directory, File, NarEvent, NarPath, Symlink
from guix_glue.formats.nar.layout import is_name
from guix_glue.local.links import FileHash, Links

__all__ = ["ItemRestorer", "remove_item"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
# Until something is complete, it is nobody else's.
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_TIMES: Final = (10**9, 10**9)

_HOLE: Final = 16 * 1024
"""Holes begin and end at multiples of this; it is one of all usual file system blocks."""
_SPARSE_SIZE: Final = 4 * _HOLE
"""Files below this have no holes: they would save little, and looking costs time."""
_ZEROES: Final = bytes(_HOLE)


class ItemRestorer:
    """Create a store item at `target`, where nothing may be, in a directory that is there.

    ```python
    restorer = ItemRestorer(target)
    try:
        restorer.write(events)     # in nar order; any number of times
        restorer.finish()          # once it is known that they were the right ones
    finally:
        restorer.close()
    ```

    With `links`, files are deduplicated in the end, by `finish`; until then what it takes for that
    is kept: some hundred bytes for each file that is large enough.
    After an error the target is left as it is: see `created` and `remove_item`.
    """

    def __init__(self, target: str, *, links: Links | None = None) -> None:
        self._directories = _Directories(target)
        self._links = links
        # Directories and what is to be linked in them: names, and the digests of `FileHash`.
        self._large: dict[NarPath, list[tuple[bytes, bytes]]] = {}
        self._file: _OpenFile | None = None

    @property
    def created(self) -> bool:
        """Whether something is at the target that this object made."""
        return self._directories.created

    def write(self, events: Iterable[NarEvent]) -> None:
        """Make the next entries, or parts of them.

        Raises: FileExistsError, if something is at the target; FetchFailed, if the events are not
        those of an item; OSError.
        """
        for event in events:
            match event:
                case Data(content):
                    self._write(content)
                case File(path, size, executable):
                    self._begin_file(path, size, executable)
                case Directory(path):
                    self._check_complete()
                    self._directories.make_directory(path)
                case Symlink(path, target):
                    self._check_complete()
                    self._directories.make_symlink(path, target)
                case _:
                    assert_never(event)

    def finish(self) -> None:
        """Give the directories that are still open their final form: the item is complete.

        Raises: as `write`.
        """
        self._check_complete()
        self._directories.finish()
        if self._links is not None:
            self._deduplicate(self._links)

    def close(self) -> None:
        """Close whatever is open; again is harmless."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file.descriptor)
        self._directories.close()

    def _begin_file(self, path: NarPath, size: int, executable: bool) -> None:
        self._check_complete()
        descriptor = self._directories.make_file(path)
        hasher = self._links.start(size, executable) if self._links is not None else None
        self._file = _OpenFile(descriptor, path, size, executable, hasher)
        if not size:
            self._end_file(self._file)

    def _write(self, content: bytes | memoryview) -> None:
        file = self._file
        if file is None or len(content) > file.size - file.written:
            raise FetchFailed("there is more content than the file was said to have")
        file.write(content)
        if file.written == file.size:
            self._end_file(file)

    def _end_file(self, file: _OpenFile) -> None:
        self._file = None
        file.close()
        if file.hasher is not None:
            way = self._directories.way_to(file.path)
            self._large.setdefault(way[:-1], []).append((way[-1], file.hasher.digest()))

    def _deduplicate(self, links: Links) -> None:
        for way, files in self._large.items():
            with self._directories.unsealed(way) as parent:
                for name, digest in files:
                    links.deduplicate(parent, name, digest)

    def _check_complete(self) -> None:
        if self._file is not None:
            raise FetchFailed("there is less content than the file was said to have")


class _OpenFile:
    """The file that is being written."""

    __slots__ = ("descriptor", "executable", "hasher", "path", "size", "written")

    def __init__(
        self,
        descriptor: int,
        path: NarPath,
        size: int,
        executable: bool,
        hasher: FileHash | None,
    ) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size = size
        self.executable = executable
        self.hasher = hasher
        self.written = 0

    def write(self, content: bytes | memoryview) -> None:
        if self.hasher is not None:
            self.hasher.update(content)
        if self.size < _SPARSE_SIZE:
            _write_all(self.descriptor, content, self.written)
        else:
            self._write_sparse(memoryview(content))
        self.written += len(content)

    def close(self) -> None:
        """Give the file its final form."""
        try:
            if self.size >= _SPARSE_SIZE:
                # A hole at the end is only there if the size says so.
                os.ftruncate(self.descriptor, self.size)
            _seal(self.descriptor, 0o555 if self.executable else 0o444)
        finally:
            os.close(self.descriptor)

    def _write_sparse(self, content: memoryview) -> None:
        """Write all but the aligned chunks that are all zeroes; neighbours in one call."""
        start = 0
        chunk = -self.written % _HOLE
        while chunk + _HOLE <= len(content):
            stop = chunk + _HOLE
            # Most are told by one byte.
            if not content[chunk] and content[chunk:stop].tobytes() == _ZEROES:
                _write_all(self.descriptor, content[start:chunk], self.written + start)
                start = stop
            chunk = stop
        _write_all(self.descriptor, content[start:], self.written + start)


class _Directories:
    """Where we are in the item: one open directory for each component of the way there.

    The lowest one is the target's parent, in which the target is but a name, like any other; only
    those above it are ours.
    """

    def __init__(self, target: str) -> None:
        parent, name = os.path.split(os.fsencode(target))
        if not is_name(name):
            raise ValueError(f"not the name of an item: {target!r}")
        self._target = target
        self._parent = parent or b"."
        self._name = name
        self._way: NarPath | None = None
        self._begun = False
        self._open: list[int] = []
        self.created = False
        """Whether the target is there, made by us."""

    def make_file(self, path: NarPath) -> int:
        """Create a file; returns a descriptor, which the caller closes."""
        parent, name = self._place(path)
        try:
            descriptor = os.open(name, _CREATE, _FILE_MODE, dir_fd=parent)
        except OSError as error:
            self._explain(error, path)
        self.created = True
        return descriptor

    def make_directory(self, path: NarPath) -> None:
        """Create a directory and enter it."""
        parent, name = self._place(path)
        try:
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
            self.created = True
            self._open.append(os.open(name, _ENTER, dir_fd=parent))
        except OSError as error:
            self._explain(error, path)
        self._way = path

    def make_symlink(self, path: NarPath, target: bytes) -> None:
        """Create a symlink."""
        parent, name = self._place(path)
        if not target or b"\0" in target:
            self._fail(path, "no symlink has its target")
        try:
            os.symlink(target, name, dir_fd=parent)
            self.created = True
            os.utime(name, ns=_TIMES, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            self._explain(error, path)

    def finish(self) -> None:
        """Leave all directories of the item."""
        if not self._begun:
            raise FetchFailed("there is no item: nothing came")
        while len(self._open) > 1:
            self._leave()
        self._way = None

    def way_to(self, path: NarPath) -> NarPath:
        """The components from the target's parent on."""
        return (self._name, *path)

    @contextmanager
    def unsealed(self, way: NarPath) -> Iterator[int]:
        """Open a directory of the finished item once more (`()`: the target's parent) to change it.

        It gets its final form again, unless it is not ours or there is an error.
        """
        descriptor = os.dup(self._open[0])
        try:
            for name in way:
                above, descriptor = descriptor, os.open(name, _ENTER, dir_fd=descriptor)
                os.close(above)
            if way:
                os.fchmod(descriptor, _DIRECTORY_MODE)
            yield descriptor
            if way:
                _seal(descriptor, 0o555)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close all of them as they are; again is harmless."""
        while self._open:
            os.close(self._open.pop())
        self._way = None

    def _place(self, path: NarPath) -> tuple[int, bytes]:
        """Go where an entry belongs; returns that directory and the entry's checked name there."""
        if not path:
            return self._begin(), self._name
        name = path[-1]
        if not is_name(name):
            self._fail(path, "its name is none that may be restored")
        parent = path[:-1]
        if parent != self._way:
            self._leave_until(parent)
        return self._open[-1], name

    def _begin(self) -> int:
        if self._begun:
            self._fail((), "the item itself comes twice")
        self._begun = True
        self._open.append(os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return self._open[-1]

    def _leave_until(self, way: NarPath) -> None:
        while self._way is not None and len(self._way) > len(way):
            self._leave()
            self._way = self._way[:-1]
        if self._way != way:
            self._fail(way, "it is not the directory that entries may now come in")

    def _leave(self) -> None:
        descriptor = self._open.pop()
        try:
            _seal(descriptor, 0o555)
        finally:
            os.close(descriptor)

    def _explain(self, error: OSError, path: NarPath) -> NoReturn:
        where = os.path.join(self._target, *map(os.fsdecode, path))
        if path and isinstance(error, FileExistsError):
            raise FetchFailed(f"{where!r} comes twice, as the file system sees it") from error
        raise OSError(error.errno, os.strerror(error.errno or 0), where) from error

    def _fail(self, path: NarPath, reason: str) -> NoReturn:
        raise FetchFailed(f"{b'/'.join(path)[:300]!r} cannot be restored: {reason}")


def _seal(descriptor: int, mode: int) -> None:
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=_TIMES)


def _write_all(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    written = os.pwrite(descriptor, content, offset) if content else 0
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], offset + written)


def remove_item(target: str) -> None:
    """Remove what is at `target`: a file, a symlink itself, or a directory with all that is in it.

    Also what is in directories that nobody may write to. Follows no symlink. Nothing there is fine.
    Raises: OSError.
    """
    remove_tree(target)

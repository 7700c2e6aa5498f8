"""Files of a store item to the events of its nar.

One directory after the other is walked, held open while what is in it is visited, and everything is
looked up relative to it; symlinks are never followed. Of those around it only the nearest are held
as well, so that a deep tree takes no more descriptors than a flat one: the others are opened again,
as the parent of what is in them, and must then be the same directory as before. So nothing that is
moved or replaced meanwhile leads elsewhere. A nar says a file's size before its bytes: a file that
has more or fewer when it is read ends the walk, as does one that was written to.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from eris_fs import Stamp, settled_status
from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarPath,
    NarWriter,
    Symlink,
)

__all__ = ["hash_steps", "nar_hash", "read_item", "read_outline"]

_PIECE: Final = 1024 * 1024
_HELD: Final = 2
"""Directories that are held open at once; one more while the next is entered or left."""
# O_NONBLOCK: a pipe put in a file's place must not block us; it says nothing about real files.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
# What opening says when something else is there than a moment ago.
_MOVED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EINVAL})


class _Identity(NamedTuple):
    """Tells a directory from any other that there is at the same time."""

    device: int
    inode: int


@dataclass(slots=True)
class _Level:
    """A directory being walked, and the names left in it, last first; maybe not held open."""

    descriptor: int | None
    identity: _Identity
    path: NarPath
    names: list[bytes]

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def read_item(path: str, piece: int = _PIECE) -> Generator[NarEvent, None, None]:
    """Walk a store item, in nar order; contents come in pieces of up to `piece` bytes.

    Close the generator if it is not exhausted.
    Raises: UnsupportedItem, for what a nar cannot hold or what changes meanwhile; OSError.
    """
    return _Walk(path, piece).events()


def read_outline(path: str) -> Generator[NarEvent, None, None]:
    """The same without any contents: no file is opened, and no `Data` comes.

    Close the generator if it is not exhausted.
    Raises: as `read_item`.
    """
    return _Walk(path, None).events()


def nar_hash(path: str) -> tuple[bytes, int]:
    """The SHA-256 of an item's nar, and the bytes of that.

    Raises: as `read_item`.
    """
    steps = hash_steps(path)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            digest, size = done.value
            return digest, size


def hash_steps(path: str) -> Generator[int, None, tuple[bytes, int]]:
    """The same in steps of up to 1 MiB, each giving the bytes so far.

    Close the generator if it is not exhausted.
    Raises: as `read_item`.
    """
    writer, digest, size = NarWriter(), sha256(), 0
    with closing(read_item(path)) as events:
        for event in events:
            piece = writer.write(event)
            digest.update(piece)
            size += len(piece)
            yield size
    end = writer.finish()
    digest.update(end)
    return digest.digest(), size + len(end)


class _Walk:
    """One walk: the directories on the way to where it is. `piece` is None: without contents."""

    def __init__(self, top: str, piece: int | None) -> None:
        self._top = top
        self._piece = piece
        self._levels: list[_Level] = []

    def events(self) -> Generator[NarEvent, None, None]:
        try:
            yield from self._visit(os.fsencode(self._top), None, ())
            while self._levels:
                parent = self._levels[-1]
                if not parent.names:
                    self._leave()
                    continue
                name = parent.names.pop()
                yield from self._visit(name, parent.descriptor, (*parent.path, name))
        except OSError as error:
            if error.errno in _MOVED and self._levels:
                raise UnsupportedItem(self._top, "it changed while it was read") from error
            raise
        finally:
            for level in self._levels:
                level.close()

    def _visit(self, name: bytes, parent: int | None, path: NarPath) -> Iterator[NarEvent]:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        mode = found.st_mode
        if stat.S_ISREG(mode):
            if self._piece is None:
                yield File(path, found.st_size, bool(mode & stat.S_IXUSR))
            else:
                yield from self._read_file(name, parent, path, self._piece)
        elif stat.S_ISLNK(mode):
            yield Symlink(path, os.readlink(name, dir_fd=parent))
        elif stat.S_ISDIR(mode):
            self._enter(name, parent, path)
            yield Directory(path)
        else:
            raise UnsupportedItem(self._show(path), "it is a device, a pipe or a socket")

    def _enter(self, name: bytes, parent: int | None, path: NarPath) -> None:
        if len(path) > DEFAULT_NAR_LIMITS.depth:
            raise UnsupportedItem(self._show(path), "directories are too deep")
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            names = sorted(map(os.fsencode, os.listdir(descriptor)), reverse=True)
            self._levels.append(_Level(descriptor, _identity(descriptor), path, names))
        except BaseException:
            os.close(descriptor)
            raise
        if len(self._levels) > _HELD:
            self._levels[-1 - _HELD].close()

    def _leave(self) -> None:
        """Go back to the directory around, which may have to be opened again."""
        left = self._levels.pop()
        try:
            if self._levels and self._levels[-1].descriptor is None:
                self._reopen(self._levels[-1], left)
        finally:
            left.close()

    def _reopen(self, level: _Level, inside: _Level) -> None:
        level.descriptor = os.open("..", _DIRECTORY, dir_fd=inside.descriptor)
        if _identity(level.descriptor) != level.identity:
            raise UnsupportedItem(self._show(inside.path), "it changed while it was read")

    def _read_file(
        self, name: bytes, parent: int | None, path: NarPath, piece_size: int
    ) -> Iterator[NarEvent]:
        descriptor = os.open(name, _FILE, dir_fd=parent)
        try:
            found = settled_status(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnsupportedItem(self._show(path), "it changed while it was read")
            yield File(path, found.st_size, bool(found.st_mode & stat.S_IXUSR))
            left = found.st_size
            # One byte more than there should be shows a file that grew.
            while piece := os.read(descriptor, min(left + 1, piece_size)):
                left -= len(piece)
                if left < 0:
                    break
                yield Data(piece)
            if left:
                raise UnsupportedItem(self._show(path), "its size changed while it was read")
            # Files of a store are linked to at any time, where equal ones are kept once.
            now = Stamp.of(os.fstat(descriptor))
            if change := Stamp.of(found).change(now, but_links=True):
                raise UnsupportedItem(self._show(path), f"it changed while it was read: {change}")
        finally:
            os.close(descriptor)

    def _show(self, path: NarPath) -> str:
        return "/".join((self._top, *(name.decode("utf-8", "backslashreplace") for name in path)))


def _identity(descriptor: int) -> _Identity:
    found = os.fstat(descriptor)
    return _Identity(found.st_dev, found.st_ino)

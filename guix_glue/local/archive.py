"""Files of a store item to the events of its nar.

One directory after the other is walked, each held open while what is in it is visited, and
everything is looked up relative to it; symlinks are never followed. So nothing that is moved or
replaced meanwhile leads elsewhere. A nar says a file's size before its bytes: a file that has more
or fewer when it is read, or that was written to meanwhile, ends the walk.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from hashlib import sha256
from typing import Final, NamedTuple

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

__all__ = ["hash_steps", "nar_hash", "read_item"]

_PIECE: Final = 1024 * 1024
# O_NONBLOCK: a pipe put in a file's place must not block us; it says nothing about real files.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
# What opening says when something else is there than a moment ago.
_MOVED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EINVAL})


class _Open(NamedTuple):
    """A directory being walked, and the names left in it, last first."""

    descriptor: int
    path: NarPath
    names: list[bytes]


def read_item(path: str) -> Generator[NarEvent, None, None]:
    """Walk a store item, in nar order; contents come in pieces of up to 1 MiB.

    Close the generator if it is not exhausted.
    Raises: UnsupportedItem, for what a nar cannot hold or what changes meanwhile; OSError.
    """
    return _Walk(path).events()


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
    with closing(_Walk(path).events()) as events:
        for event in events:
            piece = writer.write(event)
            digest.update(piece)
            size += len(piece)
            yield size
    end = writer.finish()
    digest.update(end)
    return digest.digest(), size + len(end)


class _Walk:
    """One walk: the directories on the way to where it is."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._open: list[_Open] = []

    def events(self) -> Generator[NarEvent, None, None]:
        try:
            yield from self._visit(os.fsencode(self._top), None, ())
            while self._open:
                parent = self._open[-1]
                if not parent.names:
                    os.close(self._open.pop().descriptor)
                    continue
                name = parent.names.pop()
                yield from self._visit(name, parent.descriptor, (*parent.path, name))
        except OSError as error:
            if error.errno in _MOVED and self._open:
                raise UnsupportedItem(self._top, "it changed while it was read") from error
            raise
        finally:
            for directory in self._open:
                os.close(directory.descriptor)

    def _visit(self, name: bytes, parent: int | None, path: NarPath) -> Iterator[NarEvent]:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            yield from self._read_file(name, parent, path)
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
        except BaseException:
            os.close(descriptor)
            raise
        self._open.append(_Open(descriptor, path, names))

    def _read_file(self, name: bytes, parent: int | None, path: NarPath) -> Iterator[NarEvent]:
        descriptor = os.open(name, _FILE, dir_fd=parent)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnsupportedItem(self._show(path), "it changed while it was read")
            yield File(path, found.st_size, bool(found.st_mode & stat.S_IXUSR))
            left = found.st_size
            # One byte more than there should be shows a file that grew.
            while piece := os.read(descriptor, min(left + 1, _PIECE)):
                left -= len(piece)
                if left < 0:
                    break
                yield Data(piece)
            if left:
                raise UnsupportedItem(self._show(path), "its size changed while it was read")
            if not _is_unchanged(found, os.fstat(descriptor)):
                raise UnsupportedItem(self._show(path), "it was written to while it was read")
        finally:
            os.close(descriptor)

    def _show(self, path: NarPath) -> str:
        return "/".join((self._top, *(name.decode("utf-8", "backslashreplace") for name in path)))


def _is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody wrote to an open file between the two.

    The time of modification can be put back, that of change cannot. But a store links files with
    the same content to each other at any time, which changes the latter and the count of links.
    """
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return False
    return before.st_ctime_ns == after.st_ctime_ns or before.st_nlink != after.st_nlink

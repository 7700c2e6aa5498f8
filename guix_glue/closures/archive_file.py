"""An archive in a file, which appears when it is whole; one that broke off goes on.

It grows under its name with `.part` behind it, and keeps that when the work ends too early: what is
in it is compared once more, item by item, before more is added. Only one program at a time has it.

The functions that touch the disk are for worker threads.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from eris.threads import in_thread
from guix_glue.closures.wanted import Wanted
from guix_glue.formats.export import ARCHIVE_END, ITEM_BEGIN
from guix_glue.model import StoreItem

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ArchiveFile", "ArchiveInUse"]

_READ: Final = 1024 * 1024
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What linking says where a file system has no links, as those of many sticks.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

EndOf = Callable[[Wanted, "_Hash"], bytes]
"""What stands behind the nar of an item, of which the SHA-256 is given."""


class ArchiveInUse(OSError):
    """Another program writes to the file, or it is none that we have begun."""


class ArchiveFile:
    """The archive that is to be at `path`; an `ItemSink`. `close` it.

    Raises: ArchiveInUse; OSError.
    """

    def __init__(self, path: str, *, replace: bool) -> None:
        self.part = f"{path}.part"
        """Where it is until it is whole."""
        self._path = path
        self._replace = replace
        self._begun = 0
        self._descriptor = _open(self.part)

    def close(self) -> None:
        """Close it: what is there of it stays, but for nothing at all."""
        if self._descriptor >= 0:
            with suppress(OSError):
                if not os.fstat(self._descriptor).st_size:
                    os.unlink(self.part)
            os.close(self._descriptor)
            self._descriptor = -1

    async def resume(self, wanted: Sequence[Wanted], end_of: EndOf) -> int:
        """Keep what is there already, and right; how many of the items that is, the first ones."""
        place = offset = 0
        for one in wanted:
            size = await in_thread(self._check, offset, one, end_of)
            if not size:
                break
            offset += size
            place += 1
        await in_thread(self._cut, offset)
        return place

    async def begin(self, item: StoreItem) -> None:
        """See `ItemSink`. Raises: OSError."""
        self._begun = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        await in_thread(self._write, ITEM_BEGIN)

    async def write(self, piece: bytes) -> None:
        """See `ItemSink`. Raises: OSError."""
        await in_thread(self._write, piece)

    async def complete(self, end: bytes) -> None:
        """See `ItemSink`. Raises: OSError."""
        await in_thread(self._write, end)

    async def take_back(self) -> None:
        """See `ItemSink`. Raises: OSError."""
        await in_thread(self._cut, self._begun)

    async def finish(self) -> None:
        """All items are there: let the archive appear.

        Raises: FileExistsError, if something is there that is not to be replaced; OSError.
        """
        await in_thread(self._publish)

    def _publish(self) -> None:
        self._write(ARCHIVE_END)
        os.fsync(self._descriptor)
        if self._replace:
            os.replace(self.part, self._path)
        else:
            _rename(self.part, self._path)
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                error.filename = self.part
                raise

    def _cut(self, offset: int) -> None:
        os.ftruncate(self._descriptor, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def _check(self, offset: int, wanted: Wanted, end_of: EndOf) -> int:
        """How many bytes there are of an item, if it stands there whole; else none."""
        size = wanted.item.nar_size
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        if self._read(len(ITEM_BEGIN)) != ITEM_BEGIN:
            return 0
        if os.fstat(self._descriptor).st_size < offset + len(ITEM_BEGIN) + size:
            return 0
        state, left = hashlib.sha256(), size
        while left and (piece := self._read(min(left, _READ))):
            state.update(piece)
            left -= len(piece)
        if left or state.digest() != wanted.item.nar_hash:
            return 0
        end = end_of(wanted, state)
        return len(ITEM_BEGIN) + size + len(end) if self._read(len(end)) == end else 0

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := os.read(self._descriptor, size - len(data))):
            data += piece
        return data


def _open(path: str) -> int:
    """Open a file that we have begun, or begin it, and be the only one."""
    descriptor = os.open(path, _FLAGS, 0o666)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise ArchiveInUse(errno.EEXIST, "is in the way, and was not begun here", path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(path) from None
        if not _is_still(path, found):
            # It was given its name meanwhile, by whoever had it before.
            raise _busy(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _busy(path: str) -> ArchiveInUse:
    return ArchiveInUse(errno.EBUSY, "is being written to by another program", path)


def _is_still(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except OSError:
        return False


def _rename(source: str, target: str) -> None:
    """Give a file its name, where nothing may be. Raises: FileExistsError; OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            error.filename, error.filename2 = target, None
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)
        return
    os.unlink(source)

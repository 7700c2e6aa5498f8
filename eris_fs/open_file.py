"""A regular file that was opened, and what the system says of files that cannot be read.

Its size and times are noted when it is opened, and compared again at the end, so that a file that
changed under its reader is noticed. Holes of a sparse file are passed, not read.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Final, NoReturn, Self

from eris.model import Hole
from eris_fs.errors import FileChanged, Unreadable, Vanished
from eris_fs.stamp import Stamp

__all__ = ["OpenFile", "explain"]

_UNREADABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO})
# What opening says when something else is there than a moment ago.
_MOVED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ESTALE})

# What `st_blocks` counts in.
_BLOCK: Final = 512


class OpenFile:
    """A regular file that was opened, and what it was like then. Close it, or use `with`.

    `executable` is the owner's x bit, `size` is in bytes, `path` is for messages.
    """

    __slots__ = (
        "_data_end",
        "_descriptor",
        "_is_sparse",
        "_read",
        "_stamp",
        "executable",
        "path",
        "size",
    )

    def __init__(self, descriptor: int, path: str, found: os.stat_result) -> None:
        self._descriptor = descriptor
        self._stamp = Stamp.of(found)
        self._read = 0
        self.path = path
        self.size = found.st_size
        self.executable = bool(found.st_mode & stat.S_IXUSR)
        self._is_sparse = found.st_blocks * _BLOCK < found.st_size
        # Where what is known to be no hole ends.
        self._data_end = 0

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._descriptor < 0

    @property
    def stamp(self) -> Stamp:
        """What it was like when it was opened."""
        return self._stamp

    def read(self, limit: int) -> bytes:
        """Read the next bytes, up to `limit`; none at the end, once all is known to be well.

        Raises: FileChanged; Unreadable.
        """
        try:
            data = os.read(self._descriptor, limit)
        except OSError as error:
            explain(error, self.path)
        self._read += len(data)
        if self._read > self.size:
            raise FileChanged(self.path, "it grew")
        if not data:
            self._verify()
        return data

    def read_piece(self, limit: int) -> bytes | Hole:
        """As `read`, but of a sparse file a hole comes as such, of whatever length.

        Raises: FileChanged; Unreadable.
        """
        if not self._is_sparse or self._read >= self.size:
            return self.read(limit)
        if self._read >= self._data_end and (hole := self._pass_hole()):
            return hole
        return self.read(min(limit, self._data_end - self._read))

    def read_all(self) -> bytes:
        """Read the whole file, for one that is small.

        Raises: FileChanged; Unreadable.
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
        self._read = self._data_end = 0

    def _pass_hole(self) -> Hole | None:
        """Go to where data is; returns the hole before it, and finds out where the data ends."""
        place = self._read
        try:
            start = self._seek(place, os.SEEK_DATA)
            if start > place:
                os.lseek(self._descriptor, start, os.SEEK_SET)
                self._read = start
                return Hole(start - place)
            self._data_end = self._seek(place, os.SEEK_HOLE)
            os.lseek(self._descriptor, place, os.SEEK_SET)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                explain(error, self.path)
            # This file system does not tell: all of it is read.
            self._is_sparse = False
            self._data_end = self.size
            os.lseek(self._descriptor, place, os.SEEK_SET)
        return None

    def _seek(self, place: int, whence: int) -> int:
        """Find what begins next, no further than the file was long; that, if there is none."""
        try:
            return min(os.lseek(self._descriptor, place, whence), self.size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self.size
            raise

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


def explain(error: OSError, where: str) -> NoReturn:
    """Raise what an error of the file system means for a file.

    Raises: Unreadable, Vanished, OSError.
    """
    if error.errno in _UNREADABLE:
        raise Unreadable(where, f"it cannot be read: {os.strerror(error.errno)}") from error
    if error.errno in _MOVED:
        raise Vanished(where, "it vanished or was replaced") from error
    raise OSError(error.errno, os.strerror(error.errno or 0), where) from error

"""A content as a file that can be read and sought in, as `open(path, "rb")` gives one.

Going into the loop's thread and back costs as much as copying some tens of kilobytes. So for
whoever reads in order more is brought at a time than was asked for; for whoever jumps about, not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BUFFER_SIZE", "ContentFile"]

BUFFER_SIZE: Final = 16 * 1024
"""What the buffer around a file asks for at a time: half a block."""

_LEAST: Final = 64 * 1024
_MOST: Final = 1024 * 1024
"""Bytes that are fetched at a time for whoever reads in order: more and more, up to a span."""

_ALL: Final = 8 * 1024 * 1024
"""Bytes that are fetched at a time for whoever wants all that is left."""


class ContentFile(io.RawIOBase):
    """A file out of a store. `read` gives a range of bytes, `find_size` how many there are."""

    def __init__(
        self, read: Callable[[int, int], bytes], find_size: Callable[[], int], name: str
    ) -> None:
        super().__init__()
        self._read = read
        self._find_size = find_size
        if name:
            self.name = name
        self.mode = "rb"
        self._at = 0
        # What was fetched last, where it begins, and how much is fetched next time.
        self._held = b""
        self._begin = 0
        self._step = _LEAST

    def readable(self) -> bool:
        """Say that it can be read, while it is open."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Say that one can go anywhere in it."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Tell where the next read begins."""
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, which may be behind the end; returns it.

        Raises: ValueError, for a place before the beginning.
        """
        self._check_open()
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._find_size()
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if offset < 0:
            raise ValueError(f"a place before the beginning: {offset}")
        self._at = offset
        return offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read up to as many bytes as there is room for; 0 at the end.

        Raises: BlockNotFound, ContentError, StoreError; ValueError, if it or its store is closed.
        """
        self._check_open()
        with memoryview(buffer).cast("B") as room:
            piece = self._piece(len(room))
            room[: len(piece)] = piece
            self._at += len(piece)
            return len(piece)

    def readall(self) -> bytes:
        """Read all from here to the end; as `readinto`."""
        self._check_open()
        pieces = []
        while piece := self._piece(_ALL):
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it; the store stays open."""
        self._held = b""
        super().close()

    def _piece(self, most: int) -> memoryview | bytes:
        """Up to so many bytes from where we are."""
        within = self._at - self._begin
        if 0 <= within < len(self._held):
            return memoryview(self._held)[within : within + most]
        if not most:
            return b""
        length = most
        if within == len(self._held):
            length = max(most, self._step)
            self._step = min(2 * self._step, _MOST)
        else:
            self._step = _LEAST
        piece = self._read(self._at, length)
        self._begin = self._at
        # What is given at once need not be held, but for where it ends.
        if length == most:
            self._begin += len(piece)
            self._held = b""
            return piece
        self._held = piece
        return memoryview(piece)[:most]

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")

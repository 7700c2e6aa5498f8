"""Cuts a zstd stream where little comes out of each piece.

The library decompresses all it is given at once, and four bytes of zstd can stand for 128 KiB. But
each block of a frame stands for no more than that, and has its length in its header: so a piece
with few ends of blocks is one of little output. The ends of frames show as well, so that a stream
that is cut off, or goes on with something else, is noticed.
Source: RFC 8878, sections 3.1.1 and 3.1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, assert_never

from guix_glue.errors import CompressionError

__all__ = ["MAX_BLOCK_SIZE", "BlockCutter"]

MAX_BLOCK_SIZE: Final = 128 * 1024
"""Bytes that a block stands for at most."""

_MAGIC: Final = 0xFD2FB528
# Sixteen numbers begin frames that stand for nothing.
_SKIPPABLE_MAGIC: Final = 0x184D2A50
_MAGIC_SIZE: Final = 4
_SKIPPED_SIZE_SIZE: Final = 4
_BLOCK_HEADER_SIZE: Final = 3
_CHECKSUM_SIZE: Final = 4
# By flags of the descriptor, the sizes of fields behind it.
_DICTIONARY_ID_SIZES: Final = (0, 1, 2, 4)
_CONTENT_SIZES: Final = (0, 2, 4, 8)
_RLE: Final = 1


class _Part(Enum):
    """What the bytes that come next are."""

    MAGIC = auto()
    SKIPPED_SIZE = auto()
    SKIPPED = auto()
    DESCRIPTOR = auto()
    FRAME_HEADER = auto()
    BLOCK_HEADER = auto()
    BLOCK = auto()
    LAST_BLOCK = auto()
    CHECKSUM = auto()


_UNREAD: Final = frozenset({_Part.SKIPPED, _Part.BLOCK, _Part.LAST_BLOCK})


class BlockCutter:
    """Follows a stream and cuts it into pieces in which no more than `blocks` blocks end."""

    def __init__(self, blocks: int) -> None:
        self.complete = False
        """Whether the stream may end here."""
        self.content_size: int | None = None
        """What the newest frame says that it stands for, in bytes, if it says so."""
        self._blocks = blocks
        self._checksum = False
        self._content_size_size = 0
        self._expect(_Part.MAGIC, _MAGIC_SIZE)

    def cut(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Cut what comes next; tells of each piece whether its frame ends with it.

        Raises: CompressionError, for what is no zstd.
        """
        start = position = ends = 0
        while position < len(data) or not self._missing:
            position += self._take(data, position)
            if self._missing:
                break
            ends += self._part in (_Part.BLOCK, _Part.LAST_BLOCK)
            self._end_part()
            if ends == self._blocks or self.complete:
                yield data[start:position], self.complete
                start, ends = position, 0
        if start < position:
            yield data[start:position], False

    def _take(self, data: bytes, position: int) -> int:
        count = min(self._missing, len(data) - position)
        if count:
            self.complete = False
        if self._part not in _UNREAD:
            self._read += data[position : position + count]
        self._missing -= count
        return count

    def _expect(self, part: _Part, size: int) -> None:
        self._part = part
        self._missing = size
        self._read = b""

    def _end_part(self) -> None:
        """Find out what follows the part that is complete."""
        number = int.from_bytes(self._read, "little")
        match self._part:
            case _Part.MAGIC:
                self._begin_frame(number)
            case _Part.SKIPPED_SIZE:
                self._expect(_Part.SKIPPED, number)
            case _Part.DESCRIPTOR:
                self._begin_header(number)
            case _Part.BLOCK_HEADER:
                self._begin_block(number)
            case _Part.FRAME_HEADER:
                self._read_content_size()
                self._expect(_Part.BLOCK_HEADER, _BLOCK_HEADER_SIZE)
            case _Part.BLOCK:
                self._expect(_Part.BLOCK_HEADER, _BLOCK_HEADER_SIZE)
            case _Part.LAST_BLOCK if self._checksum:
                self._expect(_Part.CHECKSUM, _CHECKSUM_SIZE)
            case _Part.LAST_BLOCK | _Part.CHECKSUM | _Part.SKIPPED:
                self._expect(_Part.MAGIC, _MAGIC_SIZE)
                self.complete = True
            case _:
                assert_never(self._part)

    def _begin_frame(self, magic: int) -> None:
        self.content_size = None
        if magic == _MAGIC:
            self._expect(_Part.DESCRIPTOR, 1)
        elif magic & ~15 == _SKIPPABLE_MAGIC:
            self._expect(_Part.SKIPPED_SIZE, _SKIPPED_SIZE_SIZE)
        else:
            raise CompressionError("this is not zstd")

    def _begin_header(self, descriptor: int) -> None:
        single_segment = bool(descriptor & 0x20)
        self._checksum = bool(descriptor & 4)
        # A frame of one segment has no window, but always the size of its content.
        window_size = 0 if single_segment else 1
        self._content_size_size = _CONTENT_SIZES[descriptor >> 6] or (1 if single_segment else 0)
        size = window_size + _DICTIONARY_ID_SIZES[descriptor & 3] + self._content_size_size
        self._expect(_Part.FRAME_HEADER, size)

    def _read_content_size(self) -> None:
        """The last field of the header; one of two bytes begins where one of one byte ends."""
        size = self._content_size_size
        if size:
            number = int.from_bytes(self._read[-size:], "little")
            self.content_size = number + 256 if size == 2 else number

    def _begin_block(self, header: int) -> None:
        size = 1 if header >> 1 & 3 == _RLE else header >> 3
        self._expect(_Part.LAST_BLOCK if header & 1 else _Part.BLOCK, size)

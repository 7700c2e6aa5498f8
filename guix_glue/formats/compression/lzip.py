"""lzip: a small format around LZMA, of which Python's lzma module has all but the frame.

A member is `LZIP`, a version (1), a byte for the size of the dictionary, an LZMA stream of fixed
properties that ends with a marker, and a trailer: CRC-32 and size of the data, size of the member.
Source: the lzip manual, "File format".
"""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import Final

from guix_glue.errors import CompressionError

__all__ = ["LzipCompressor", "LzipMember"]

_HEADER: Final = struct.Struct("<4sBB")
_TRAILER: Final = struct.Struct("<IQQ")
_MAGIC: Final = b"LZIP"
_VERSION: Final = 1

_MIB: Final = 1024 * 1024
# Bytes of dictionary by level: the program's own, which is also what a reader needs of memory.
_DICTIONARIES: Final = (0, _MIB, 3 * _MIB // 2, *(size * _MIB for size in (2, 3, 4, 8, 16, 24, 32)))
_SMALLEST: Final = 4096


def _filters(dictionary: int, preset: int | None = None) -> list[dict[str, int]]:
    base = {} if preset is None else {"preset": preset}
    return [{"id": lzma.FILTER_LZMA1, **base, "dict_size": dictionary, "lc": 3, "lp": 0, "pb": 2}]


class LzipCompressor:
    """Compresses into one member; `level` is from 1 to 9."""

    def __init__(self, level: int) -> None:
        dictionary = _DICTIONARIES[level]
        self._codec = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_filters(dictionary, level))
        self._head = _HEADER.pack(_MAGIC, _VERSION, _format_size(dictionary))
        self._crc = 0
        self._size = 0
        self._member_size = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; returns what is ready."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        return self._count(self._codec.compress(data))

    def finish(self) -> bytes:
        """Say that this was all; returns the rest."""
        rest = self._count(self._codec.flush())
        member_size = self._member_size + _TRAILER.size
        return rest + _TRAILER.pack(self._crc, self._size, member_size)

    def _count(self, output: bytes) -> bytes:
        output, self._head = self._head + output, b""
        self._member_size += len(output)
        return output


class LzipMember:
    """Decompresses one member, with the interface of `lzma.LZMADecompressor`.

    `max_dictionary` bounds the memory that it asks for, in bytes.
    """

    def __init__(self, max_dictionary: int) -> None:
        self.eof = False
        self.unused_data = b""
        self._max_dictionary = max_dictionary
        self._codec: lzma.LZMADecompressor | None = None
        # A header or trailer that is not complete.
        self._part = b""
        self._crc = 0
        self._size = 0
        self._member_size = 0

    @property
    def needs_input(self) -> bool:
        """Whether there is no more output without more input."""
        return self._codec is None or self._codec.eof or self._codec.needs_input

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take the next bytes; returns up to `max_length`.

        Raises: CompressionError, lzma.LZMAError.
        """
        if self._codec is None:
            self._part += data
            if len(self._part) < _HEADER.size:
                return b""
            self._begin()
            data, self._part = self._part[_HEADER.size :], b""
        assert self._codec is not None
        if self._codec.eof:
            self._end(data)
            return b""
        self._member_size += len(data)
        output = self._codec.decompress(data, max_length)
        self._crc = zlib.crc32(output, self._crc)
        self._size += len(output)
        if self._codec.eof:
            self._member_size -= len(self._codec.unused_data)
            self._end(self._codec.unused_data)
        return output

    def _begin(self) -> None:
        magic, version, coded_size = _HEADER.unpack_from(self._part)
        if magic != _MAGIC or version != _VERSION:
            raise CompressionError("this is not lzip, or of a version that is not known")
        dictionary = _parse_size(coded_size)
        if dictionary > self._max_dictionary:
            raise CompressionError(f"lzip asks for {dictionary} bytes of memory")
        self._codec = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(dictionary))
        self._member_size = _HEADER.size

    def _end(self, data: bytes) -> None:
        self._part += data
        if len(self._part) < _TRAILER.size:
            return
        member_size = self._member_size + _TRAILER.size
        if _TRAILER.unpack_from(self._part) != (self._crc, self._size, member_size):
            raise CompressionError("the lzip trailer does not fit what is before it")
        self.eof = True
        self.unused_data = self._part[_TRAILER.size :]


def _parse_size(coded: int) -> int:
    """Bits 0-4: a power of two; bits 5-7: how many sixteenths of that to subtract.

    Raises: CompressionError.
    """
    exponent, sixteenths = coded & 31, coded >> 5
    size = (1 << exponent) - sixteenths * ((1 << exponent) // 16)
    if not 12 <= exponent <= 29 or size < _SMALLEST:
        raise CompressionError("the lzip header has a dictionary of a size that none has")
    return size


def _format_size(size: int) -> int:
    exponent = (size - 1).bit_length()
    return exponent | ((1 << exponent) - size) // ((1 << exponent) // 16) << 5

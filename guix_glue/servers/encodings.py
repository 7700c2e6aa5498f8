"""Bodies in a `Content-Encoding` that nobody asked for: some servers and proxies do that.

What everybody reads is undone here, gzip and deflate; of others it is said which they are. All is
bounded: what is decoded comes in pieces, and an encoding that is longer than its content by much is
none that anybody would use.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from eris_fs import printable
from guix_glue.errors import CompressionError, FetchFailed
from guix_glue.formats.compression import Compression

if TYPE_CHECKING:
    from guix_glue.formats.compression import Decompressor

__all__ = ["body_decoder", "decode_body", "encoding_name"]

# What some servers write that have encoded nothing.
_NOTHING: Final = frozenset({"", "identity", "none", "binary", "utf-8", "aws-chunked"})
# Bytes at a time.
_STEP: Final = 256 * 1024
# What an encoding may be longer than its content.
_SLACK: Final = 64 * 1024
_LONGEST_NAME: Final = 40
_RAW: Final = -zlib.MAX_WBITS


def encoding_name(header: str) -> str:
    """The encoding that a header `Content-Encoding` names; empty if there is none."""
    names = (name.strip().removeprefix("x-") for name in header.lower().split(","))
    return ", ".join(name for name in names if name not in _NOTHING)


def body_decoder(name: str) -> Decompressor:
    """What undoes an encoding.

    Raises: FetchFailed, if it is not known.
    """
    # Loaded with the first body: a query that has its answers from before needs none of it.
    from guix_glue.formats.compression import decompressor

    match name:
        case "":
            return decompressor(Compression.NONE)
        case "gzip":
            return _Bounded(decompressor(Compression.GZIP))
        case "deflate":
            return _Bounded(_Inflating())
        case _:
            shown = printable(name[:_LONGEST_NAME])
            raise FetchFailed(f"the server answers with Content-Encoding '{shown}', not asked for")


def decode_body(name: str, body: bytes, limit: int) -> bytes:
    """A whole body, decoded.

    Raises: FetchFailed, if it is longer than the limit or cannot be decoded.
    """
    result = bytearray()
    decoder = body_decoder(name)
    try:
        for piece in decoder.feed(body, _STEP):
            result += piece
            if len(result) > limit:
                raise FetchFailed(f"the server's answer is longer than {limit} bytes")
        decoder.finish()
    except CompressionError as error:
        raise FetchFailed(f"the server's answer cannot be decoded: {error}") from error
    return bytes(result)


class _Bounded:
    """Refuses what is mostly encoding."""

    def __init__(self, inner: Decompressor) -> None:
        self._inner = inner
        self._left = _SLACK

    def feed(self, data: bytes, max_output: int = _STEP) -> Iterator[bytes]:
        self._left -= len(data)
        for piece in self._inner.feed(data, max_output):
            self._left += 2 * len(piece)
            yield piece
        if self._left < 0:
            raise CompressionError("its encoding is much longer than what it stands for")

    def finish(self) -> None:
        self._inner.finish()


class _Inflating:
    """`deflate`: with the header of zlib, as it should be, or without, as some have it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()
        self._begun = False

    def feed(self, data: bytes, max_output: int = _STEP) -> Iterator[bytes]:
        if data and not self._begun:
            self._begun = True
            # The low four bits of zlib's header are the method, 8; no block of deflate that
            # anybody writes begins so.
            if data[0] & 15 != 8:
                self._inflate = zlib.decompressobj(_RAW)
        try:
            full = False
            while (data or full) and not self._inflate.eof:
                piece = self._inflate.decompress(data, max_output)
                data = self._inflate.unconsumed_tail
                # There may be more, also if all input has been taken.
                full = len(piece) == max_output
                if piece:
                    yield piece
        except zlib.error as error:
            raise CompressionError(f"the deflate stream is damaged: {error}") from error

    def finish(self) -> None:
        if not self._inflate.eof:
            raise CompressionError("the deflate stream is cut off")

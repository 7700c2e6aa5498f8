"""Bytes in, compressed bytes out, as they come. The same bytes always give the same."""

from __future__ import annotations

import zlib
from typing import Final, Protocol, assert_never

from eris_fs.zstd import CompressionParameter, ZstdCompressor
from guix_glue.formats.compression.choice import Compression, CompressionChoice
from guix_glue.formats.compression.lzip import LzipCompressor

__all__ = ["Compressor", "compressor"]

# zlib's number for its largest window and the header of gzip.
_GZIP: Final = 31


class Compressor(Protocol):
    """Compresses one stream."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; returns what is ready, maybe nothing."""
        ...

    def finish(self) -> bytes:
        """Say that this was all; returns the rest."""
        ...


def compressor(choice: CompressionChoice) -> Compressor:
    """What compresses as was chosen."""
    match choice.method:
        case Compression.NONE:
            return _Plain()
        case Compression.GZIP:
            # Its header has neither name nor time.
            return _Flushed(zlib.compressobj(choice.level, zlib.DEFLATED, _GZIP))
        case Compression.LZIP:
            return LzipCompressor(choice.level)
        case Compression.ZSTD:
            # With its checksum, damage shows to whoever has no better one.
            options: dict[int, int] = {
                CompressionParameter.compression_level: choice.level,
                CompressionParameter.checksum_flag: 1,
            }
            return _Flushed(ZstdCompressor(options=options))
        case Compression.XZ | Compression.BZIP2:
            raise ValueError(f"{choice.method.value} can be read, but not written")
        case _:
            assert_never(choice.method)


class _Plain:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Compressing(Protocol):
    """What zlib and zstd have."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Flushed:
    def __init__(self, codec: _Compressing) -> None:
        self._codec = codec

    def feed(self, data: bytes) -> bytes:
        return self._codec.compress(data)

    def finish(self) -> bytes:
        return self._codec.flush()

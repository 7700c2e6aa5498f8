"""One Zstandard frame for each pack, and one for the index: made here, and taken apart here.

A frame states the size of its content, so whoever reads one knows what memory it takes before it is
decompressed, and gets it in one piece. Nothing may stand before or after it.

Only zstandard works in one piece without a copy of what comes out, and only the module of Python
takes prefixes (`docs/decisions/0016-two-libraries-for-zstd.md`).

Synchronous, for a worker thread: both run outside the interpreter's lock.
"""

from __future__ import annotations

from typing import Final

import zstandard

from eris_fs.zstd import CompressionParameter, ZstdCompressor, ZstdDict

__all__ = [
    "MAX_LEVEL",
    "MAX_PREFIX_SIZE",
    "InvalidFrame",
    "compress",
    "compress_with",
    "content_size",
    "decompress",
    "decompress_with",
    "library_version",
]

MAX_LEVEL: Final = zstandard.MAX_COMPRESSION_LEVEL

MAX_PREFIX_SIZE: Final = 64 * 1024 * 1024
"""Bytes that may stand before what a frame holds: those and a pack fit into the largest window."""

# A window of 128 MiB is what every zstd reads unless it is told otherwise.
_WINDOW_LOGS: Final = range(10, 27 + 1)
# With fewer bytes the library takes no prefix, and none could save anything.
_LEAST_PREFIX_SIZE: Final = 8


class InvalidFrame(Exception):
    """The bytes are not one frame that keeps the rules of `docs/formats.md`."""


def library_version() -> str:
    """The version of the zstd library in use, as `1.5.7`."""
    return ".".join(map(str, zstandard.ZSTD_VERSION))


def compress(data: bytes, level: int) -> bytes:
    """Make a frame; the same bytes for the same data, level and library."""
    return zstandard.ZstdCompressor(level=level, write_checksum=False).compress(data)


def content_size(frame: bytes, window_limit: int) -> int:
    """Look at the head of a frame; returns the size it states.

    Raises: InvalidFrame.
    """
    try:
        found = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise InvalidFrame(f"not a Zstandard frame: {error}") from None
    size: int = found.content_size
    # What zstandard gives for "not stated".
    if size in (0, zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise InvalidFrame("a Zstandard frame that does not state its size, or is empty")
    if found.has_checksum or found.dict_id:
        raise InvalidFrame("a Zstandard frame with a checksum or a dictionary")
    if found.window_size > max(size, window_limit):
        raise InvalidFrame("a Zstandard frame with too large a window")
    return size


def decompress(frame: bytes, size: int, window_limit: int) -> bytes:
    """Take apart a frame that must hold `size` bytes, and nothing else.

    Raises: InvalidFrame.
    """
    return _decompress(zstandard.ZstdDecompressor(), frame, size, window_limit)


def compress_with(data: bytes, prefix: bytes, level: int) -> bytes:
    """Make a frame of `data` that may repeat what is in `prefix`, which is raw bytes.

    The same bytes for the same data, prefix, level and library. A prefix of less than 8 bytes
    counts as none. A longer one may have `MAX_PREFIX_SIZE`; then `data` may be a pack.
    Raises: ValueError, for a longer prefix, or where the two are longer than 128 MiB.
    """
    window_log = max(_WINDOW_LOGS[0], (len(prefix) + len(data) - 1).bit_length())
    if window_log not in _WINDOW_LOGS:
        raise ValueError("a prefix and what follows are at most 128 MiB together")
    options: dict[int, int] = {
        CompressionParameter.compression_level: level,
        CompressionParameter.window_log: window_log,
        # Finds what is alike however far back it is, which the tables of a level forget.
        CompressionParameter.enable_long_distance_matching: 1,
    }
    before = ZstdDict(prefix, is_raw=True).as_prefix if _counts(prefix) else None
    codec = ZstdCompressor(options=options, zstd_dict=before)
    # All in one call: so the frame states its size.
    return codec.compress(data, ZstdCompressor.FLUSH_FRAME)


def decompress_with(frame: bytes, prefix: bytes, size: int, window_limit: int) -> bytes:
    """Take apart a frame of `compress_with`, which must hold `size` bytes, and nothing else.

    Another prefix than that with which it was made gives other bytes, or an error.
    Raises: InvalidFrame; ValueError, for a prefix of more than `MAX_PREFIX_SIZE`.
    """
    if not _counts(prefix):
        return decompress(frame, size, window_limit)
    before = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    codec = zstandard.ZstdDecompressor(dict_data=before)
    return _decompress(codec, frame, size, window_limit)


def _decompress(
    codec: zstandard.ZstdDecompressor, frame: bytes, size: int, window_limit: int
) -> bytes:
    if content_size(frame, window_limit) != size:
        raise InvalidFrame("a Zstandard frame that states another size")
    try:
        data = codec.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidFrame(f"a bad Zstandard frame: {error}") from None
    if len(data) != size:
        raise InvalidFrame("a Zstandard frame of another size than it states")
    return data


def _counts(prefix: bytes) -> bool:
    if len(prefix) > MAX_PREFIX_SIZE:
        raise ValueError("a prefix is at most 64 MiB")
    return len(prefix) >= _LEAST_PREFIX_SIZE

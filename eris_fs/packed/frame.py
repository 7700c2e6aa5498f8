"""One Zstandard frame for each pack, and one for the index: made here, and taken apart here.

A frame states the size of its content, so whoever reads one knows what memory it takes before it is
decompressed, and gets it in one piece. Nothing may stand before or after it.

Synchronous, for a worker thread: zstd runs outside the interpreter's lock.
"""

from __future__ import annotations

from typing import Final

import zstandard

__all__ = ["MAX_LEVEL", "InvalidFrame", "compress", "content_size", "decompress", "library_version"]

MAX_LEVEL: Final = zstandard.MAX_COMPRESSION_LEVEL


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
    if content_size(frame, window_limit) != size:
        raise InvalidFrame("a Zstandard frame that states another size")
    try:
        data = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise InvalidFrame(f"a bad Zstandard frame: {error}") from None
    if len(data) != size:
        raise InvalidFrame("a Zstandard frame of another size than it states")
    return data

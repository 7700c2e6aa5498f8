"""The content of a delta: its head, its index and its patches, one after the other; pure.

Source: `docs/formats.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from cbor2 import dumps

from eris_fs.delta.index import MAX_INDEX_SIZE
from eris_fs.errors import InvalidManifest
from eris_fs.manifest import MAGIC
from eris_fs.model import DEFAULT_LIMITS, Limits
from eris_fs.sections import read_string_head

__all__ = ["HEADER", "DeltaHead", "HeadReader", "format_start", "looks_like_delta"]

HEADER: Final = MAGIC + dumps("kapla-delta-1")
"""How every delta begins, up to its string of bytes."""

_HEAD: Final = Struct("<32s32sQQQQ")
# Whatever is stored of the patches, it is not more than what they make.
_MOST_BYTES: Final = 1 << 44


def looks_like_delta(head: bytes) -> bool:
    """Tell from the first bytes of a content, at least 20, whether it claims to be a delta."""
    return head.startswith(HEADER)


@dataclass(frozen=True, slots=True)
class DeltaHead:
    """What is known of a delta without its base.

    Hashes (Blake2b-256): of the base's outline, and of the new tree's canonical listing. Of the new
    tree the number of entries and the bytes of all files, those of equal content counted each time;
    the bytes of the stream; those of the index, compressed.
    """

    base: bytes = field(repr=False)
    listing: bytes = field(repr=False)
    entries: int
    size: int
    stream_size: int
    index_size: int


def format_start(head: DeltaHead, stored_size: int) -> bytes:
    """Write what stands before the index, when `stored_size` is that of all patches together."""
    length = _HEAD.size + head.index_size + stored_size
    # The head of a string of bytes is that of a number, but for the kind.
    string = bytearray(dumps(length))
    string[0] += 0x40
    return (
        HEADER
        + bytes(string)
        + _HEAD.pack(
            head.base, head.listing, head.entries, head.size, head.stream_size, head.index_size
        )
    )


class HeadReader:
    """Reads the head out of what comes: `feed` it until it returns something."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._data = b""

    def feed(self, data: bytes) -> tuple[DeltaHead, int, bytes] | None:
        """Take the next bytes; returns the head, how many bytes follow it, and those that came.

        Raises: InvalidManifest, for what is no delta, or announces more than is allowed.
        """
        self._data += data
        found = self._data[: len(HEADER)]
        if found != HEADER[: len(found)]:
            raise InvalidManifest("it is not a delta of a version that is supported", 0)
        string = read_string_head(self._data, len(HEADER), _MOST_BYTES)
        if string is None or len(self._data) < string[0] + _HEAD.size:
            return None
        start, end = string
        head = DeltaHead(*_HEAD.unpack_from(self._data, start))
        left = end - start - _HEAD.size
        self._check(head, left, start)
        return head, left, self._data[start + _HEAD.size :]

    def _check(self, head: DeltaHead, left: int, at: int) -> None:
        limits = self._limits
        for what, found, most in (
            ("entries", head.entries, limits.entries),
            ("bytes of files", head.size, limits.content_size),
            ("bytes of files that are made", head.stream_size, head.size),
            ("bytes of index", head.index_size, min(left, MAX_INDEX_SIZE, limits.index_size)),
            ("bytes of patches", left - head.index_size, head.stream_size),
        ):
            if found > most:
                raise InvalidManifest(f"more than {most} {what}", at)

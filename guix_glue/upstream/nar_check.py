"""Whether a nar that comes in pieces, compressed or not, is the one that is signed."""

from __future__ import annotations

import hashlib
from typing import Final

from guix_glue.errors import FetchFailed, HashMismatch
from guix_glue.formats.compression import Compression, decompressor

__all__ = ["NarCheck"]

_STEP: Final = 1024 * 1024


class NarCheck:
    """Hashes a nar as it comes; `limit` is its size in bytes, at most. For a worker thread."""

    def __init__(self, method: Compression, nar_hash: bytes, limit: int) -> None:
        self._decompressor = decompressor(method)
        self._expected = nar_hash
        self._limit = limit
        self._size = 0
        self._hash = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises: CompressionError; FetchFailed, if the nar is longer than it may be.
        """
        for nar in self._decompressor.feed(data, _STEP):
            self._size += len(nar)
            if self._size > self._limit:
                raise FetchFailed(f"the nar is longer than {self._limit} bytes")
            self._hash.update(nar)

    def finish(self) -> None:
        """Say that this was all.

        Raises: CompressionError; HashMismatch.
        """
        self._decompressor.finish()
        if self._hash.digest() != self._expected:
            raise HashMismatch(self._expected, self._hash.digest())

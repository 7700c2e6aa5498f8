"""Where a download ends: bytes or events in, a store item out, unless its hash is wrong.

Both sinks see every byte of the nar, hash it, and cut it off as soon as it is longer than it may
be. Nothing is written but what a strict parser has let through, and the item is complete only when
the hash of its nar is the one that was signed. Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from guix_glue.errors import FetchFailed, HashMismatch
from guix_glue.formats.compression import Compression, decompressor, longest_compressed
from guix_glue.formats.nar import File, NarEvent, NarLimits, NarReader, NarWriter
from guix_glue.local.links import Links
from guix_glue.local.restore import ItemRestorer

__all__ = ["EventSink", "Expected", "NarSink"]

# Decompressed at a time.
_STEP = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Expected:
    """What a nar must be: its SHA-256, and its size at most."""

    nar_hash: bytes
    limit: int


class _Sink:
    """The end that both share: the hash, the size, and the item that is made."""

    def __init__(self, target: str, expected: Expected, links: Links | None) -> None:
        self.size = 0
        """Bytes of nar so far."""
        self._expected = expected
        self._hash = hashlib.sha256()
        self._restorer = ItemRestorer(target, links=links)

    @property
    def created(self) -> bool:
        """Whether something is at the target that was made here."""
        return self._restorer.created

    def close(self) -> None:
        """Let go of what is open; what was made is left where it is."""
        self._restorer.close()

    def _count(self, nar: bytes) -> None:
        self.size += len(nar)
        self._check_size(0)
        self._hash.update(nar)

    def _check_size(self, coming: int) -> None:
        if self.size + coming > self._expected.limit:
            raise FetchFailed(f"the nar is longer than {self._expected.limit} bytes")

    def _complete(self) -> None:
        """Let the item be one, if it is what it should be.

        Raises: HashMismatch; OSError.
        """
        digest = self._hash.digest()
        if digest != self._expected.nar_hash:
            raise HashMismatch(self._expected.nar_hash, digest)
        self._restorer.finish()


class NarSink(_Sink):
    """Takes a nar, compressed or not."""

    def __init__(
        self, target: str, expected: Expected, compression: Compression, links: Links | None = None
    ) -> None:
        super().__init__(target, expected, links)
        self._received = 0
        self._decompressor = decompressor(compression)
        self._reader = NarReader(NarLimits(size=expected.limit))

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises: CompressionError, InvalidNar, FetchFailed, OSError.
        """
        self._received += len(data)
        if self._received > longest_compressed(self._expected.limit):
            raise FetchFailed(f"more comes than a nar of {self._expected.limit} bytes can take")
        for nar in self._decompressor.feed(data, _STEP):
            self._count(nar)
            self._restorer.write(self._reader.feed(nar))

    def finish(self) -> None:
        """Say that this was all.

        Raises: as `write`; HashMismatch.
        """
        self._decompressor.finish()
        self._reader.finish()
        self._complete()


class EventSink(_Sink):
    """Takes the events of a nar, from a tree, and writes the nar to know its hash."""

    def __init__(self, target: str, expected: Expected, links: Links | None = None) -> None:
        super().__init__(target, expected, links)
        self._writer = NarWriter()

    def write(self, events: Iterable[NarEvent]) -> None:
        """Take the next events.

        Raises: FetchFailed, OSError.
        """
        for event in events:
            if isinstance(event, File):
                self._check_size(event.size)
            self._count(self._writer.write(event))
            self._restorer.write((event,))

    def finish(self) -> None:
        """Say that this was all.

        Raises: HashMismatch, FetchFailed, OSError.
        """
        self._count(self._writer.finish())
        self._complete()

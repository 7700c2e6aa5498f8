"""What comes of a source to the bytes of its nar, some at a time. For worker threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, TypeVar

from guix_glue.errors import FetchFailed
from guix_glue.formats.compression import Compression, decompressor, longest_compressed
from guix_glue.formats.nar import NarEvent, NarWriter
from guix_glue.proxy.outflow import Outflow

__all__ = ["Compressed", "Events", "Some", "Unpacker", "some_of"]

_Batch_contra = TypeVar("_Batch_contra", contravariant=True)

_STEP: Final = 1024 * 1024
# What was sent before is only hashed: much of it, before anybody looks whether the client has gone.
_LONGEST_STEP: Final = 8 * 1024 * 1024


class Unpacker(Protocol[_Batch_contra]):
    """Makes a nar of batches."""

    def feed(self, batch: _Batch_contra, /) -> Iterator[bytes]:
        """Take the next batch; gives the nar's bytes, which are to be taken before more is fed.

        Raises: CompressionError, FetchFailed.
        """

    def finish(self) -> bytes:
        """Say that this was all; gives the last bytes. Raises: CompressionError, ValueError."""


class Events:
    """A nar of its events."""

    def __init__(self) -> None:
        self._writer = NarWriter()

    def feed(self, batch: list[NarEvent], /) -> Iterator[bytes]:
        """Take some events."""
        yield b"".join(map(self._writer.write, batch))

    def finish(self) -> bytes:
        """The end of the nar."""
        return self._writer.finish()


class Compressed:
    """A nar of at most so many bytes, compressed or not."""

    def __init__(self, method: Compression, nar_size: int) -> None:
        self._decompressor = decompressor(method)
        self._left = longest_compressed(nar_size)

    def feed(self, batch: bytes, /) -> Iterator[bytes]:
        """Take some of it."""
        self._left -= len(batch)
        if self._left < 0:
            raise FetchFailed("more comes than such a nar can take")
        return self._decompressor.feed(batch, _STEP)

    def finish(self) -> bytes:
        """See that it is complete."""
        self._decompressor.finish()
        return b""


class Some(NamedTuple):
    """Bytes that may go out, and are to be given before what happened behind them counts.

    Empty, if those that were taken are held back, or went out before.
    """

    out: bytes
    ended: bool = False
    """Whether there are no more to take."""
    error: Exception | None = None
    """What is wrong with the next ones."""


def some_of(nar: Iterator[bytes], outflow: Outflow) -> Some:
    """The next bytes that may go out, about a MiB."""
    out: list[bytes] = []
    taken = size = 0
    try:
        for piece in nar:
            free = outflow.feed(piece)
            out.append(free)
            taken += len(piece)
            size += len(free)
            if size >= _STEP or taken >= _LONGEST_STEP:
                return Some(b"".join(out))
    except Exception as error:
        return Some(b"".join(out), error=error)
    return Some(b"".join(out), ended=True)

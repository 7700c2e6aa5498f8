"""What comes is written in a worker thread, while more of it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol, TypeVar

from eris.threads import in_thread
from eris_fs.threads import OneBehind
from guix_glue.servers.watch import Watch

__all__ = ["Received", "pour"]

_Batch_contra = TypeVar("_Batch_contra", contravariant=True)
_Batch = TypeVar("_Batch")

# Handed to the writing thread at a time.
_STEP: Final = 256 * 1024


class _Sink(Protocol[_Batch_contra]):
    """Where batches go, in a worker thread."""

    def write(self, batch: _Batch_contra, /) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


async def pour(
    batches: AsyncGenerator[_Batch, None],
    sink: _Sink[_Batch],
    watch: Watch,
    progress: Callable[[], None],
) -> None:
    """Write what comes while more comes; returns when the item is complete, and closes the sink."""
    writer = OneBehind(sink.write)
    try:
        async with aclosing(batches):
            async for batch in batches:
                watch.pause()
                await writer.start(batch)
                watch.resume()
                progress()
        watch.pause()
        await writer.wait()
        await in_thread(sink.finish)
    finally:
        await writer.settle()
        sink.close()


class Received:
    """Counts what comes, and joins it: a change of threads costs more than small pieces do."""

    def __init__(self) -> None:
        self.size = 0

    async def batches(
        self, pieces: AsyncGenerator[bytes, None], watch: Watch
    ) -> AsyncGenerator[bytes, None]:
        """Give the pieces, joined. Raises: whatever the iteration raises."""
        waiting: list[bytes] = []
        given = 0
        async with aclosing(pieces):
            async for piece in pieces:
                watch.touch(len(piece))
                waiting.append(piece)
                self.size += len(piece)
                if self.size - given >= _STEP:
                    yield b"".join(waiting)
                    waiting, given = [], self.size
        yield b"".join(waiting)

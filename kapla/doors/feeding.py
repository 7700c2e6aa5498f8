"""A file that the calling thread reads, for work that a loop does in another.

The caller waits anyway. So Ctrl-C finds it where it reads, and a pipe that never gives anything
holds up nobody else, not even the end of the program. It is some pieces ahead of the work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import BinaryIO, Final, TypeVar

from kapla.doors.running import Background

__all__ = ["feed"]

T = TypeVar("T")

_PIECE: Final = 1024 * 1024
_AHEAD: Final = 4
"""Pieces that are read and not taken yet, at most."""


def feed(
    home: Background,
    source: BinaryIO,
    work: Callable[[AsyncIterator[bytes]], Coroutine[object, object, T]],
) -> T:
    """Read a file to its end, and have the loop work on what it gives.

    Raises: whatever reading or the work raises.
    """
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    async def given() -> AsyncIterator[bytes]:
        while piece := await pieces.get():
            room.release()
            yield piece

    with home.prepare(lambda: work(given())) as call:
        call.begin()
        # Whoever waits for room then sees that nothing more is wanted.
        call.result.add_done_callback(lambda _: room.release())
        while not call.result.done():
            piece: bytes | None = source.read(_PIECE)
            if piece is None:
                raise BlockingIOError("the source has nothing to read yet and does not wait")
            room.acquire()
            home.loop.call_soon_threadsafe(pieces.put_nowait, piece)
            if not piece:
                break
        return call.wait()

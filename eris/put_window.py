"""Blocks on their way into a store: as many as a window has room for, awaited oldest first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from itertools import islice
from types import TracebackType
from typing import Final, Self

from eris.lacking import Kept, content_share
from eris.model import EncodedBlock
from eris.store import BlockWriter
from eris.threads import withdraw

__all__ = ["PutWindow", "check_window"]

# Bytes of puts in flight.
_PUT_BUFFER: Final = 8 * 1024 * 1024

# How often it is told what was kept: as often as anybody looks.
_TELLING_S: Final = 0.1


def check_window(window: int) -> None:
    """Raises: ValueError."""
    if window < 1:
        raise ValueError(f"a window of {window} requests in flight moves nothing")


class PutWindow:
    """Puts in flight; leaving the context waits for all, or withdraws them after an error.

    At most `window` of them, and at most 8 MiB. `kept` is told of those that are confirmed, in
    order, ten times a second: a callback for each would cost more than to send it.
    """

    def __init__(self, store: BlockWriter, window: int, kept: Kept | None = None) -> None:
        check_window(window)
        self._store = store
        self._window = window
        self._kept = kept
        self._in_flight: deque[asyncio.Future[None]] = deque()
        self._sizes: deque[tuple[int, Kept | None]] = deque()
        self._size = 0
        # Of those in flight the first so many are confirmed, and told of.
        self._told = 0
        self._telling: asyncio.TimerHandle | None = None

    async def add(self, blocks: Iterable[EncodedBlock], kept: Kept | None = None) -> None:
        """Send blocks, waiting for room; one caller at a time. `kept` is told of these alone."""
        in_flight, put = self._in_flight, self._store.put
        kept = kept or self._kept
        if kept is not None and self._telling is None:
            self._tell()
        for reference, block in blocks:
            while len(in_flight) >= self._window or self._size >= _PUT_BUFFER:
                await in_flight[0]
                self._pop()
            awaitable: Awaitable[None] = put(reference, block)
            in_flight.append(asyncio.ensure_future(awaitable))
            self._sizes.append((len(block), kept))
            self._size += len(block)

    def _pop(self) -> None:
        """The oldest is confirmed."""
        self._in_flight.popleft()
        size, kept = self._sizes.popleft()
        self._size -= size
        if self._told:
            self._told -= 1
        elif kept is not None:
            kept(content_share(size))

    def _tell(self) -> None:
        """Tell of those that are confirmed and still stand here, and do so again and again."""
        self._telling = asyncio.get_running_loop().call_later(_TELLING_S, self._tell)
        waiting = zip(self._in_flight, self._sizes, strict=True)
        for future, (size, kept) in islice(waiting, self._told, None):
            if not future.done() or future.cancelled() or future.exception() is not None:
                break
            self._told += 1
            if kept is not None:
                kept(content_share(size))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while kind is None and self._in_flight:
                await self._in_flight[0]
                self._pop()
        finally:
            if self._telling is not None:
                self._telling.cancel()
            withdraw(self._in_flight)

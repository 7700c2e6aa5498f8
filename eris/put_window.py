"""Blocks on their way into a store: as many as a window has room for, awaited oldest first.

Where a store takes many at once they go in lots, each awaited as one: to make a request, a future
and a place in the window for each block would cost more than to encrypt it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Final, NamedTuple, Self

from eris.lacking import Kept, content_shares
from eris.model import EncodedBlock
from eris.store import BlockWriter, ManyWriter
from eris.threads import withdraw

__all__ = ["PutWindow", "check_window"]

# Bytes of puts in flight.
_PUT_BUFFER: Final = 8 * 1024 * 1024
# Bytes of one lot at most: some of them are in flight at a time.
_LOT: Final = 256 * 1024
# So many lots fill the window at least, for the same reason.
_LEAST_LOTS: Final = 8

# How often it is told what was kept: as often as anybody looks.
_TELLING_S: Final = 0.1


def check_window(window: int) -> None:
    """Raises: ValueError."""
    if window < 1:
        raise ValueError(f"a window of {window} requests in flight moves nothing")


class _Lot(NamedTuple):
    """Blocks in flight that are awaited together."""

    future: asyncio.Future[None]
    blocks: int
    size: int
    """In bytes."""
    share: int
    """Bytes of content that they stand for."""
    kept: Kept | None

    @property
    def is_kept(self) -> bool:
        future = self.future
        return future.done() and not future.cancelled() and future.exception() is None


class PutWindow:
    """Puts in flight; leaving the context waits for all, or withdraws them after an error.

    At most `window` of them, and at most 8 MiB. `kept` is told of those that are confirmed, in
    order, ten times a second: a callback for each would cost more than to send it.
    """

    def __init__(self, store: BlockWriter, window: int, kept: Kept | None = None) -> None:
        check_window(window)
        self._window = window
        self._kept = kept
        self._put: Callable[[Sequence[EncodedBlock]], Awaitable[None]]
        if isinstance(store, ManyWriter):
            self._put, self._most = store.put_all, max(1, window // _LEAST_LOTS)
        else:
            self._put, self._most = lambda lot: store.put(*lot[0]), 1
        self._in_flight: deque[_Lot] = deque()
        # Of all that is in flight.
        self._count = self._size = 0
        # Of those in flight the first so many are confirmed, and told of.
        self._told = 0
        self._telling: asyncio.TimerHandle | None = None

    async def add(self, blocks: Iterable[EncodedBlock], kept: Kept | None = None) -> None:
        """Send blocks, waiting for room; one caller at a time. `kept` is told of these alone."""
        in_flight = self._in_flight
        kept = kept or self._kept
        if kept is not None and self._telling is None:
            self._tell()
        for lot, size in _lots(blocks, self._most):
            while in_flight and not self._has_room(len(lot), size):
                await in_flight[0].future
                self._pop()
            future = asyncio.ensure_future(self._put(lot))
            share = content_shares(lot) if kept else 0
            in_flight.append(_Lot(future, len(lot), size, share, kept))
            self._count += len(lot)
            self._size += size

    def _has_room(self, count: int, size: int) -> bool:
        return self._count + count <= self._window and self._size + size <= _PUT_BUFFER

    def _pop(self) -> None:
        """The oldest is confirmed."""
        lot = self._in_flight.popleft()
        self._count -= lot.blocks
        self._size -= lot.size
        if self._told:
            self._told -= 1
        elif lot.kept is not None:
            lot.kept(lot.share)

    def _tell(self) -> None:
        """Tell of those that are confirmed and still stand here, and do so again and again."""
        self._telling = asyncio.get_running_loop().call_later(_TELLING_S, self._tell)
        for lot in islice(self._in_flight, self._told, None):
            if not lot.is_kept:
                break
            self._told += 1
            if lot.kept is not None:
                lot.kept(lot.share)

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
                await self._in_flight[0].future
                self._pop()
        finally:
            if self._telling is not None:
                self._telling.cancel()
            withdraw(lot.future for lot in self._in_flight)


def _lots(blocks: Iterable[EncodedBlock], most: int) -> Iterator[tuple[list[EncodedBlock], int]]:
    """Cut them into lots of up to `most` blocks and 256 KiB, with the bytes of each."""
    lot: list[EncodedBlock] = []
    size = 0
    for item in blocks:
        length = len(item[1])
        if lot and (len(lot) >= most or size + length > _LOT):
            yield lot, size
            lot, size = [], 0
        lot.append(item)
        size += length
    if lot:
        yield lot, size

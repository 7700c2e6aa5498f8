"""The window of a store that takes many blocks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from eris import EncodedBlock, MemoryStore, Reference, StoreUnavailable
from eris.lacking import content_share
from eris.put_window import PutWindow

KIB = 1024
GUARD_S = 30.0


class Many(MemoryStore):
    """Keeps what it is given when it is told to, and remembers in which lots it came."""

    def __init__(self) -> None:
        super().__init__()
        self.lots: list[Sequence[EncodedBlock]] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.came = asyncio.Event()

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lots.append(blocks)
        self.waiting.append(future)
        self.came.set()
        return future

    async def until(self, lots: int) -> None:
        while len(self.lots) < lots:
            self.came.clear()
            await self.came.wait()


def run(main: Callable[[Many], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main(Many())

    asyncio.run(guarded())


def some(count: int, size: int) -> list[EncodedBlock]:
    # The window compares nothing with its reference.
    return [(Reference(number.to_bytes(32, "big")), bytes(size)) for number in range(count)]


def sizes(store: Many) -> list[int]:
    return [len(lot) for lot in store.lots]


async def keep_all(store: Many) -> None:
    """Whatever comes, as long as nobody ends this."""
    while True:
        for future in store.waiting:
            if not future.done():
                future.set_result(None)
        store.came.clear()
        await store.came.wait()


def test_lots_have_256_kib_and_an_eighth_of_the_window_at_most() -> None:
    async def main(store: Many) -> None:
        keeping = asyncio.create_task(keep_all(store))
        async with PutWindow(store, 2048) as puts:
            await puts.add(some(300, KIB))
            await puts.add([*some(20, 32 * KIB), *some(3, KIB)])
            await puts.add(iter(some(2, KIB)))
            await puts.add([])
        assert sizes(store) == [256, 44, 8, 8, 4 + 3, 2]
        store.lots.clear()
        async with PutWindow(store, 20) as puts:
            await puts.add(some(5, KIB))
        async with PutWindow(store, 1) as puts:
            await puts.add(some(2, KIB))
        assert sizes(store) == [2, 2, 1, 1, 1]
        keeping.cancel()

    run(main)


def test_what_is_in_flight_is_bounded_in_blocks() -> None:
    async def main(store: Many) -> None:
        async with PutWindow(store, 80) as puts:
            adding = asyncio.create_task(puts.add(some(100, KIB)))
            await store.until(8)
            await asyncio.sleep(0)
            assert sizes(store) == [10] * 8 and not adding.done()
            store.waiting[0].set_result(None)
            await store.until(9)
            assert not adding.done()
            store.waiting[1].set_result(None)
            await adding
            for future in store.waiting[2:]:
                future.set_result(None)

    run(main)


def test_what_is_in_flight_is_bounded_in_bytes() -> None:
    async def main(store: Many) -> None:
        async with PutWindow(store, 4096) as puts:
            adding = asyncio.create_task(puts.add(some(9 * 32, 32 * KIB)))
            await store.until(32)
            await asyncio.sleep(0)
            assert sum(sizes(store)) * 32 * KIB == 8 * KIB * KIB and not adding.done()
            keeping = asyncio.create_task(keep_all(store))
            await adding
        keeping.cancel()

    run(main)


def test_it_is_told_what_is_kept_lot_by_lot_in_order() -> None:
    async def main(store: Many) -> None:
        told: list[int] = []
        heard = asyncio.Event()

        def kept(size: int) -> None:
            told.append(size)
            heard.set()

        async with PutWindow(store, 16, kept) as puts:
            await puts.add(some(5, KIB))
            store.waiting[1].set_result(None)
            store.waiting[0].set_result(None)
            while len(told) < 2:
                heard.clear()
                await heard.wait()
            assert told == [2 * content_share(KIB)] * 2
            store.waiting[2].set_result(None)
        assert told == [2 * content_share(KIB)] * 2 + [content_share(KIB)]

    run(main)


def test_a_lot_that_fails_ends_it_and_the_others_are_withdrawn() -> None:
    async def main(store: Many) -> None:
        with pytest.raises(StoreUnavailable, match="gone"):
            async with PutWindow(store, 8) as puts:
                await puts.add(some(6, KIB))
                store.waiting[1].set_exception(StoreUnavailable("gone"))
                store.waiting[0].set_result(None)
                await puts.add(some(6, KIB))
        assert all(future.cancelled() for future in store.waiting[2:])

    run(main)


def test_an_interruption_withdraws_all() -> None:
    async def main(store: Many) -> None:
        async def work() -> None:
            async with PutWindow(store, 8) as puts:
                await puts.add(some(20, KIB))

        working = asyncio.create_task(work())
        await store.until(8)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert all(future.cancelled() for future in store.waiting)

    run(main)

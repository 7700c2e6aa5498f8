"""Open pins: who goes on with one, and when it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, StoreFull, StoreRefused
from kapla.errors import PinNotFound
from kapla.sizes import size_text
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import MOST_OPEN, ORPHAN_S
from kapla.storage.sqlite.keeping.ids import Ids
from tests.clocks import Clock, run_on_clock
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import batched, make_blocks, put_many, settings_for, under_pin

OWNER = 1000
BLOCKS = list(make_blocks(5).values())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - what happens in another thread
        await asyncio.sleep(0.01)


def run(tmp_path: Path, main: Callable[[BatchedStorage, Clock], Awaitable[None]]) -> None:
    async def opened(clock: Clock) -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await main(storage, clock)

    run_on_clock(opened)


def test_an_open_pin_outlives_its_connection_for_ten_minutes(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, clock: Clock) -> None:
        pin = await storage.pinning.open(OWNER)
        await under_pin(storage, BLOCKS, pin)
        pin.detach()
        clock.skip(ORPHAN_S - 1)
        await put_many(storage, BLOCKS)
        assert len(keeping_of(storage).safe()) == 5
        clock.skip(1)
        await until(lambda: keeping_of(storage).safe() == Ids())
        with pytest.raises(PinNotFound):
            await storage.pinning.resume(OWNER, pin.token)
        with pytest.raises(PinNotFound):
            await storage.pinning.close(pin, name="a")

    run(tmp_path, main)


def test_who_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, clock: Clock) -> None:
        pin = await storage.pinning.open(OWNER)
        await under_pin(storage, BLOCKS[:3], pin)
        pin.detach()
        clock.skip(ORPHAN_S - 1)
        again = await storage.pinning.resume(OWNER, pin.token)
        assert again.is_attached
        clock.skip(ORPHAN_S)
        await under_pin(storage, BLOCKS[3:], again)
        assert (await storage.pinning.close(again, name="a")).small == 5

    run(tmp_path, main)


def test_only_its_owner_goes_on_with_a_pin_and_only_when_it_is_left(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, _clock: Clock) -> None:
        pin = await storage.pinning.open(OWNER)
        for owner, token in ((OWNER, pin.token), (OWNER, b"?" * 16)):
            with pytest.raises(PinNotFound):
                await storage.pinning.resume(owner, token)
        pin.detach()
        with pytest.raises(PinNotFound):
            await storage.pinning.resume(OWNER + 1, pin.token)
        assert await storage.pinning.resume(OWNER, pin.token) is pin

    run(tmp_path, main)


def test_one_user_has_so_many_pins_open(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, _clock: Clock) -> None:
        pins = [await storage.pinning.open(OWNER) for _ in range(MOST_OPEN)]
        with pytest.raises(StoreRefused, match=str(MOST_OPEN)):
            await storage.pinning.open(OWNER)
        await storage.pinning.open(OWNER + 1)
        # What waits for nobody in particular gives way.
        await under_pin(storage, BLOCKS, pins[3])
        pins[3].detach()
        await storage.pinning.open(OWNER)
        assert not storage.pinning.has(pins[3])
        await until(lambda: keeping_of(storage).safe() == Ids())

    run(tmp_path, main)


def test_opening_that_nobody_waits_for_any_more_holds_nothing(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, _clock: Clock) -> None:
        for _ in range(3):
            opening = [asyncio.ensure_future(storage.pinning.open(OWNER)) for _ in range(8)]
            await asyncio.sleep(0)
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
        await until(lambda: not keeping_of(storage).holds())
        # All places are free again.
        for _ in range(MOST_OPEN):
            await storage.pinning.open(OWNER)

    run(tmp_path, main)


def test_closing_ends_whole_though_nobody_waits(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, _clock: Clock) -> None:
        pin = await storage.pinning.open(OWNER)
        await under_pin(storage, BLOCKS, pin)
        closing = asyncio.ensure_future(storage.pinning.close(pin, name="a"))
        await asyncio.sleep(0)
        closing.cancel()
        await until(lambda: not storage.pinning.has(pin))
        [summary], _ = await storage.pinning.list(OWNER, None, 9)
        assert summary.small == 5
        pin.detach()
        assert not keeping_of(storage).holds()

    run(tmp_path, main)


@pytest.mark.parametrize(
    ("limit", "way"),
    [
        ({"max_size": 4 << 20, "max_pinned": 1 << 30}, "release a pin, or raise max-size"),
        (
            {"max_size": 4 << 20, "max_pinned": 1 << 30, "when_full": "refuse"},
            "raise max-size",
        ),
        ({"min_free": 1 << 62}, "make room on its disk"),
    ],
)
def test_what_is_too_large_is_told_with_the_way_out(
    tmp_path: Path, limit: dict[str, Any], way: str
) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, **limit)) as storage:
            with pytest.raises(StoreFull) as raised:
                await storage.pinning.open(OWNER, wants=5 << 20)
            start, end = str(raised.value).split(": ")
            assert start.startswith("5 MiB are to come, and there is room to keep ")
            assert end == way

    asyncio.run(main())


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 << 19, "1.5 MiB"), (5 << 30, "5 GiB")],
)
def test_sizes_are_told_in_whole_bytes_or_in_few_digits(size: int, text: str) -> None:
    assert size_text(size) == text


def test_where_the_disk_is_full_of_others_there_is_room_for_what_replaces(tmp_path: Path) -> None:
    """A store that may not grow: what nobody keeps goes for what is pinned."""

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put_many(storage, list(make_blocks(64, BlockSize.LARGE).values()))
        async with batched(settings_for(tmp_path, min_free=1 << 62)) as storage:
            pin = await storage.pinning.open(OWNER, wants=1 << 20)
            assert pin.room > 1 << 20
            await under_pin(storage, list(make_blocks(32, BlockSize.LARGE, 1).values()), pin)
            await storage.pinning.close(pin, name="new")
            assert storage.evicted_blocks

    asyncio.run(main())


def test_what_is_too_large_fails_early_and_holds_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 << 20)) as storage:
            with pytest.raises(StoreFull, match=r"3 MiB are to come, and .* of the 2 MiB that one"):
                await storage.pinning.open(OWNER, wants=3 << 20)
            with pytest.raises(StoreFull):
                await storage.pinning.open(OWNER, wants=(2 << 20) + 1)
            assert not keeping_of(storage).holds()
            pin = await storage.pinning.open(OWNER, wants=1 << 20)
            # Half of the store is one user's share.
            assert pin.room == 2 << 20
            large = list(make_blocks(32, 32768).values())  # type: ignore[arg-type]
            await under_pin(storage, large, pin)
            assert (await storage.pinning.open(OWNER)).room == 1 << 20
            other = await storage.pinning.open(OWNER + 1)
            # Of its share as much as there is, beside what the WAL and the reserve may take.
            assert 3 << 19 < other.room < 2 << 20
            third = await storage.pinning.open(OWNER + 2)
            await under_pin(storage, list(make_blocks(60, 32768, 1).values()), other)  # type: ignore[arg-type]
            # What all have pinned and hold is not there for the next one.
            left = (await storage.pinning.open(OWNER + 2)).room
            assert 0 < left < (4 << 20) - (92 << 15)
            assert third.room == other.room

    asyncio.run(main())


def test_an_abandoning_that_nobody_waits_for_lets_go_all_the_same(tmp_path: Path) -> None:
    async def main(storage: BatchedStorage, clock: Clock) -> None:
        pin = await storage.pinning.open(OWNER)
        await under_pin(storage, BLOCKS, pin)
        abandoning = asyncio.ensure_future(storage.pinning.abandon(pin))
        await asyncio.sleep(0)
        abandoning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoning
        await until(lambda: keeping_of(storage).safe() == Ids())
        assert keeping_of(storage).holds() == []

    run(tmp_path, main)

"""A block that thousands of pins lack is told to all of them, and nobody's PUT waits for that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eris import BlockSize
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.damage import transaction
from kapla.storage.sqlite.keeping import wants
from kapla.storage.sqlite.writer import SqliteWriter
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import batched, make_blocks, put_many, settings_for

OWNER, OTHER = 1000, 1001
MIB = 1 << 20
BLOCKS = make_blocks(3)
PINS = 20


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were hundreds of times as many pins."""
    monkeypatch.setattr(wants, "_AT_ONCE", 8)


async def lacking_pins(storage: BatchedStorage) -> None:
    for number in range(PINS):
        pin = await storage.pinning.open(OWNER)
        await storage.pinning.want(pin, list(BLOCKS))
        await storage.pinning.close(pin, name=f"{number:02}", incomplete=True)


async def missing(storage: BatchedStorage) -> list[int]:
    found, _ = await storage.pinning.list(OWNER, None, 100)
    return [summary.missing for summary in found]


async def all_told(storage: BatchedStorage) -> None:
    while any(await missing(storage)):  # noqa: ASYNC110 - the upkeep has no event
        await asyncio.sleep(0.01)


def test_all_pins_get_it_some_at_a_time_and_it_stays_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            await lacking_pins(storage)
            told = await storage.do(
                lambda writer: (
                    writer.put_many(dict(BLOCKS)),
                    sum(writer.pins.wants.missing(number) for number in range(1, PINS + 1)),
                    all(block_id in keeping_of(storage).safe() for block_id in range(1, 4)),
                )
            )
            # No more with one transaction, and all of it is kept.
            assert told[1:] == (3 * PINS - 8, True)
            for seed in range(10):
                flood = make_blocks(32, BlockSize.LARGE, seed)
                assert await put_many(storage, list(flood.values())) is None
            await all_told(storage)
            found, _ = await storage.pinning.list(OWNER, None, 100)
            assert {(summary.small, summary.own_small) for summary in found} == {(3, 0)}
            # Nothing of it is held any more, and the block stays for its pins alone.
            assert not keeping_of(storage).holds()
            assert keeping_of(storage).safe() == keeping_of(storage).kept
            assert len(keeping_of(storage).kept) == 3

    asyncio.run(main())


def put_and_move(writer: SqliteWriter) -> None:
    """As where kept blocks move together before all pins are told of them."""
    writer.put_many(dict(BLOCKS))
    places = {block_id: (block_id + 100, 1024) for block_id in range(1, 4)}
    with transaction(writer._connection):
        writer._connection.execute("UPDATE blocks SET id = id + 100")
        assert writer.pins.move(places)
    writer.pins.moved(places)


def test_what_moves_meanwhile_is_told_under_its_new_id(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            await lacking_pins(storage)
            await storage.do(put_and_move)
            while await storage.do(lambda writer: writer.pins.wants.has_late):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert set(await missing(storage)) == {0}
            assert list(keeping_of(storage).kept) == [101, 102, 103]

    asyncio.run(main())


def test_who_is_just_storing_it_closes_without_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            await lacking_pins(storage)
            mine = await storage.pinning.open(OTHER)
            assert not any(await storage.pinning.want(mine, list(BLOCKS)))
            putting = asyncio.ensure_future(put_many(storage, list(BLOCKS.values())))
            await asyncio.sleep(0)
            summary = await storage.pinning.close(mine, name="a")
            assert (summary.small, summary.missing) == (3, 0)
            assert await putting is None
            await all_told(storage)

    asyncio.run(main())


def test_what_has_no_room_in_some_pins_is_told_to_the_others(tmp_path: Path) -> None:
    """Those who may not have it go on to lack it, and hold up nobody."""
    settings = settings_for(tmp_path, max_size=4 * MIB, max_pinned=64 * 1024)

    async def main() -> None:
        async with batched(settings) as storage:
            await lacking_pins(storage)
            other = await storage.pinning.open(OTHER)
            await storage.pinning.want(other, list(BLOCKS))
            await storage.pinning.close(other, name="a", incomplete=True)
            full = await storage.pinning.open(OWNER)
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            filling = list(make_blocks(53, seed=1).values())
            storage.put_many(filling, done.set_result, hold=full.hold)
            assert await done is None
            await put_many(storage, list(BLOCKS.values()))
            while await storage.do(lambda writer: writer.pins.wants.has_late):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert any(await missing(storage))
            found, _ = await storage.pinning.list(OTHER, None, 10)
            assert [summary.missing for summary in found] == [0]

    asyncio.run(main())

"""What no pin has may be lent while it is there: across eviction, restarts, recounts and damage."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from eris.errors import ErisError, StoreFull
from kapla.storage.batching import BatchedStorage
from kapla.storage.lending import Lent
from kapla.storage.sqlite.keeping import lent_cache
from kapla.storage.sqlite.keeping.ids import Ids
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    opened,
    put_many,
    settings_for,
    under_pin,
)
from tests.kapla.storage.test_pins_and_eviction import flood

OWNER = 1000
MIB = 1 << 20


async def lend(storage: BatchedStorage, blocks: Sequence[bytes]) -> int:
    """Put blocks, and lend them without a pin; returns how many are lent."""
    pin = await storage.pinning.open(OWNER)
    await under_pin(storage, blocks, pin)
    return await storage.pinning.abandon(pin, lend=True)


async def lent(storage: BatchedStorage, names: Sequence[Reference]) -> int:
    """How many of these a stranger gets and is told of."""
    answer: asyncio.Future[Sequence[bool] | ErisError] = asyncio.get_running_loop().create_future()
    storage.find_many(Lent(names), answer.set_result)
    found = await answer
    assert not isinstance(found, ErisError)
    got = await get_many(storage, Lent(names))
    assert not isinstance(got, ErisError)
    assert [block is not None for block in got] == list(found)
    return sum(found)


def row(path: Path) -> Ids:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT ids FROM lent").fetchone()
    return Ids() if found is None else Ids.unpack(found[0])


def test_what_is_abandoned_so_is_lent_and_counts_for_nobody(tmp_path: Path) -> None:
    public, private = make_blocks(60), make_blocks(3, seed=1)
    settings = settings_for(tmp_path, max_pinned=64 * 1024)

    async def main() -> None:
        async with batched(settings) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(public.values()), pin)
            with pytest.raises(StoreFull):
                await storage.pinning.open(OWNER, wants=30 * 1024)
            assert await storage.pinning.abandon(pin, lend=True) == 60
            other = await storage.pinning.open(OWNER, wants=30 * 1024)
            await under_pin(storage, list(private.values()), other)
            assert await storage.pinning.abandon(other) == 0
            assert await storage.pinning.list(None, None, 9) == ([], None)
            assert await lent(storage, [*public, *private]) == 60
            assert keeping_of(storage).kept == keeping_of(storage).pinned == Ids()
        async with batched(settings) as storage:
            assert await lent(storage, [*public, *private]) == 60

    asyncio.run(main())


def test_what_was_read_stays_lent_under_its_new_ids_and_the_rest_leaves_the_set(
    tmp_path: Path,
) -> None:
    blocks = make_blocks(100)
    popular = list(blocks)[:30]
    settings = settings_for(tmp_path, max_size=4 * MIB)

    async def main() -> None:
        async with batched(settings) as storage:
            assert await lend(storage, list(blocks.values())) == 100
            for seed in range(10, 22):
                # What is read goes to the end.
                assert await lent(storage, popular) == 30
                await flood(storage, seed, 30)
            assert await lent(storage, list(blocks)) == 30
            # A recount of all pins makes the union anew.
            for name in ("one", "two"):
                pin = await storage.pinning.open(OWNER)
                await storage.pinning.want(pin, popular[:5])
                await storage.pinning.close(pin, name=name, lend=True)
            await storage.pinning.release(OWNER, name="one")
            await storage.pinning.list(OWNER, None, 9)
            assert await lent(storage, popular) == 30
        assert len(row(settings.path)) == 30
        assert row(settings.path).first() != 1
        async with batched(settings) as storage:
            assert await lent(storage, popular) == 30
            await storage.pinning.release(OWNER, name="two")
            assert await lent(storage, popular) == 30
            for seed in range(30, 34):
                await flood(storage, seed)
            assert await lent(storage, popular) == 0
            assert keeping_of(storage).lent == Ids()
        assert row(settings.path) == Ids()

    asyncio.run(main())


def test_a_block_of_a_pin_that_is_lent_no_more_is_lent_only_if_it_was_without(
    tmp_path: Path,
) -> None:
    both, pinned = make_blocks(5), make_blocks(7, seed=1)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await lend(storage, list(both.values()))
            for name in ("one", "two"):
                pin = await storage.pinning.open(OWNER)
                await under_pin(storage, [*both.values(), *pinned.values()], pin)
                await storage.pinning.close(pin, name=name, lend=name == "one")
            assert await lent(storage, [*both, *pinned]) == 12
            await storage.pinning.change(OWNER, name="one", lend=False)
            assert await lent(storage, list(both)) == 5
            assert await lent(storage, list(pinned)) == 0
            await storage.pinning.change(OWNER, name="two", lend=True)
            await storage.pinning.release(OWNER, name="one")
            await storage.pinning.release(OWNER, name="two")
            assert await lent(storage, list(both)) == 5
            assert await lent(storage, list(pinned)) == 0

    asyncio.run(main())


def test_switched_off_nothing_is_lent_without_a_pin_and_nothing_is_forgotten(
    tmp_path: Path,
) -> None:
    before, meanwhile = make_blocks(5), make_blocks(3, seed=1)
    settings = settings_for(tmp_path, max_size=4 * MIB)
    off = settings_for(tmp_path, max_size=4 * MIB, lend_cache=False)

    async def main() -> None:
        async with batched(settings) as storage:
            await lend(storage, list(before.values()))
        async with batched(off) as storage:
            assert await lend(storage, list(meanwhile.values())) == 0
            assert await lent(storage, [*before, *meanwhile]) == 0
            assert keeping_of(storage).lent == Ids()
            for seed in range(10, 14):
                # Its blocks have other ids now.
                assert not isinstance(await get_many(storage, [*before, *meanwhile]), ErisError)
                await flood(storage, seed, 50)
                assert await lent(storage, list(before)) == 0
        async with batched(settings) as storage:
            assert await lent(storage, list(before)) == 5
            assert await lent(storage, list(meanwhile)) == 0

    asyncio.run(main())


def test_it_is_written_when_there_is_time_or_when_it_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = make_blocks(9)
    settings = settings_for(tmp_path)

    def lend_some(count: int) -> None:
        number, hold, _ = store.writer.pins.begin(OWNER, None, b"token")
        store.writer.want(number, hold, list(blocks)[:count])
        assert store.writer.pins.abandon(number, hold, lend=True) == count

    with opened(settings) as store:
        store.writer.put_many(blocks)
        lend_some(4)
        assert store.writer.chore(is_idle=False) is not None
        assert row(settings.path) == Ids()
        while store.writer.chore(is_idle=True) is not None:
            pass
        assert len(row(settings.path)) == 4
        monkeypatch.setattr(lent_cache, "_LATEST_S", -1.0)
        lend_some(9)
        store.writer.chore(is_idle=False)
        assert len(row(settings.path)) == 9
    # Killed, and started again.
    with opened(settings) as store:
        assert len(store.writer._database.keeping.lent) == 9


@pytest.mark.parametrize("damage", ["row", "page"])
def test_a_damaged_row_lends_nothing_and_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    blocks, others = make_blocks(20), make_blocks(6, seed=1)
    settings = settings_for(tmp_path)

    async def main() -> None:
        async with batched(settings) as storage:
            await lend(storage, list(blocks.values()))
        spoil(settings.path, damage)
        async with batched(settings) as storage:
            assert await lent(storage, list(blocks)) == 0
            found = await get_many(storage, list(blocks))
            assert not isinstance(found, ErisError)
            assert None not in found
            assert await put_many(storage, list(others.values())) is None
            await lend(storage, list(others.values()))
        async with batched(settings) as storage:
            assert await lent(storage, [*blocks, *others]) == 6

    asyncio.run(main())
    assert caplog.text.count("cannot be read, and is lent no more") == 1


def spoil(path: Path, what: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        if what == "row":
            connection.execute("UPDATE lent SET ids = substr(ids, 1, 20)")
            connection.commit()
            return
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'lent'"
        (page,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xaa" * size)


def test_what_is_put_beside_a_damaged_block_is_lent_in_its_place(tmp_path: Path) -> None:
    blocks = make_blocks(5)
    settings = settings_for(tmp_path)
    with opened(settings) as store:
        store.writer.put_many(blocks)
        number, hold, _ = store.writer.pins.begin(OWNER, None, b"token")
        store.writer.want(number, hold, list(blocks))
        store.writer.pins.abandon(number, hold, lend=True)
        cache = store.writer.pins.lent_cache
        assert store.writer.pins.move({2: (9, 1024)})
        store.writer.pins.moved({2: (9, 1024), 77: (10, 1024)})
        assert list(cache.lent) == [1, 2, 3, 4, 5, 9]
        assert set(store.writer._database.keeping.lent) >= {9}
        assert 10 not in store.writer._database.keeping.lent


async def keep(storage: BatchedStorage, blocks: dict[Reference, bytes], *, lend: bool) -> None:
    """Have blocks kept that somebody else gave."""
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    storage.keep(blocks, answer.set_result, lend=lend)
    assert await answer is None


@pytest.mark.parametrize("size", BlockSize)
def test_what_came_from_others_is_kept_and_lent_if_they_lend_it(
    tmp_path: Path, size: BlockSize
) -> None:
    public, private = make_blocks(40, size=size), make_blocks(40, size=size, seed=1)
    settings = settings_for(tmp_path)

    async def main() -> None:
        async with batched(settings) as storage:
            await keep(storage, public, lend=True)
            await keep(storage, private, lend=False)
            assert await get_many(storage, list(private)) == list(private.values())
            assert await lent(storage, list(public)) == 40
            assert await lent(storage, list(private)) == 0
            # Given again, by somebody who lends it.
            await keep(storage, private, lend=True)
            assert await lent(storage, list(private)) == 40
        async with batched(settings) as storage:
            assert await lent(storage, [*public, *private]) == 80

    asyncio.run(main())

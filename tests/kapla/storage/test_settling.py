"""Other limits for a store that is open, and a word when it is about to be full."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from eris import BlockSize
from eris.errors import StoreUnavailable
from kapla.storage.settling import settle
from tests.kapla.storage.databases import batched, make_blocks, opened, put_many, settings_for
from tests.kapla.storage.keeping.stores import MIB, fill
from tests.kapla.storage.test_lent_cache import lend, lent

GUARD_S = 60.0


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.message for record in caplog.records if "has reached" in record.message]
    caplog.clear()
    return found


def test_a_smaller_store_shrinks_and_a_larger_one_grows(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    blocks = make_blocks(4 * MIB // BlockSize.LARGE, BlockSize.LARGE)
    with opened(settings) as store:
        fill(store, blocks)
        room = store.writer._space.room
        assert room.cap is None
        store.writer.settle(replace(settings, max_size=2 * MIB))
        while store.writer.chore(is_idle=True) == 0.0:
            pass
        assert room.file_bytes() <= 2 * MIB
        assert store.reader.find_many(list(blocks))
        # What is read is noted now: it decides what goes.
        assert store.writer._database.keeping.reads is not None
        store.writer.settle(replace(settings, max_size=8 * MIB))
        fill(store, blocks)
        assert store.reader.find_many(list(blocks)) == set(blocks)


def test_the_reserve_goes_with_the_limit(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_size=4 * MIB)
    reserve = settings.path.with_name(settings.path.name + "-reserve")
    with opened(settings) as store:
        store.writer.chore(is_idle=True)
        assert reserve.stat().st_size == 4 * MIB // 16
        store.writer.settle(replace(settings, max_size=2 * MIB))
        store.writer.chore(is_idle=True)
        assert reserve.stat().st_size == 2 * MIB // 16
        store.writer.settle(replace(settings, max_size=2 * MIB, when_full="refuse"))
        assert not reserve.exists()


def test_refused_instead_of_let_go(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_size=2 * MIB)
    blocks = make_blocks(40, BlockSize.LARGE)
    others = make_blocks(40, BlockSize.LARGE, seed=1)
    with opened(settings) as store:
        store.writer.settle(replace(settings, when_full="refuse"))
        assert not store.writer.put_many(blocks).refused
        assert store.writer.put_many(others).refused
        store.writer.settle(settings)
        assert not store.writer.put_many(others).refused


def test_it_is_said_once_for_each_time_that_a_store_gets_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = settings_for(tmp_path, max_size=4 * MIB, when_full="refuse")
    with opened(settings) as store:

        def put(count: int, seed: int) -> None:
            store.writer.put_many(make_blocks(count, BlockSize.LARGE, seed=seed))
            store.writer.chore(is_idle=False)

        put(80, 1)
        assert told(caplog) == []
        put(25, 2)
        [line] = told(caplog)
        assert "% of its max-size of 4 MiB; then new blocks are refused" in line
        assert line.startswith("The store has reached 9")
        put(1, 3)
        put(1, 4)
        assert told(caplog) == []
        # A larger one is emptier, and a smaller one full again.
        store.writer.settle(replace(settings, max_size=8 * MIB))
        store.writer.chore(is_idle=False)
        assert told(caplog) == []
        store.writer.settle(replace(settings, max_size=4 * MIB))
        store.writer.chore(is_idle=False)
        assert len(told(caplog)) == 1


def test_a_store_that_lets_go_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with opened(settings_for(tmp_path, max_size=3 * MIB)) as store:
        for seed in range(8):
            fill(store, make_blocks(32, BlockSize.LARGE, seed=seed))
            store.writer.chore(is_idle=False)
        [line] = told(caplog)
        assert line.endswith("then blocks that nobody keeps go for new ones")


def test_without_a_cap_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(settings_for(tmp_path, min_free=1)) as store:
        fill(store, make_blocks(100))
        store.writer.chore(is_idle=True)
    assert told(caplog) == []


def test_lending_without_a_pin_ends_and_begins_again(tmp_path: Path) -> None:
    async def main() -> None:
        settings = settings_for(tmp_path)
        blocks = make_blocks(20)
        async with batched(settings) as storage:
            await lend(storage, list(blocks.values()))
            assert await lent(storage, list(blocks)) == 20
            await settle(storage, replace(settings, lend_cache=False))
            assert await lent(storage, list(blocks)) == 0
            more = make_blocks(5, seed=1)
            assert await lend(storage, list(more.values())) == 0
            await settle(storage, settings)
            assert await lent(storage, list(blocks)) == 20

    asyncio.run(asyncio.wait_for(main(), GUARD_S))


def test_the_scrub_goes_on_at_another_rate(tmp_path: Path) -> None:
    async def main() -> None:
        # At this rate nothing would be looked at for years.
        settings = replace(settings_for(tmp_path), scrub_rate=1)
        async with batched(settings) as storage:
            await put_many(storage, list(make_blocks(50).values()))
            storage.scrubbing._first_after_s = 0.0
            await settle(storage, replace(settings, scrub_rate=1 << 30))
            while storage.scrubbing.looked_at < 50:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
            await settle(storage, replace(settings, scrub_rate=0))
            # Nothing is left that would go on.
            while storage.scrubbing._tasks:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), GUARD_S))


def test_a_store_that_is_closed_is_not_settled(tmp_path: Path) -> None:
    async def main() -> None:
        settings = settings_for(tmp_path)
        async with batched(settings) as storage:
            pass
        with pytest.raises(StoreUnavailable):
            await settle(storage, replace(settings, max_size=2 * MIB))
        assert storage.settings == settings

    asyncio.run(asyncio.wait_for(main(), GUARD_S))

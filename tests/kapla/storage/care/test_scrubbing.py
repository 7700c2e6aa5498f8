"""Blocks that are bad are found, dropped, and taken when they come again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.scrubbing import Scrubbing, ScrubStatus
from kapla.storage.sqlite import backend as backend_module
from kapla.storage.sqlite.care import dropping
from kapla.storage.sqlite.care.check import check
from kapla.storage.sqlite.state import SqliteSettings
from tests.kapla.storage.care.damaged import write_page
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    put_many,
    settings_for,
)
from tests.kapla.storage.test_damage import break_overflow

SMALL, LARGE = make_blocks(300), make_blocks(40, BlockSize.LARGE)
BLOCKS = SMALL | LARGE
SPOIL = "UPDATE blocks SET block = zeroblob(length(block)) WHERE reference = ?"


@asynccontextmanager
async def scrubbing(
    settings: SqliteSettings, rate: int = 0, now: float = 1e9
) -> AsyncIterator[tuple[BatchedStorage, Scrubbing]]:
    async with batched(settings) as storage:
        looker = storage.backend.looker
        scrub = Scrubbing(storage, looker, rate, first_after_s=0.0, clock=lambda: now)
        scrub.start()
        try:
            yield storage, scrub
        finally:
            await scrub.stop()


async def fill(settings: SqliteSettings) -> None:
    async with batched(settings) as storage:
        for part in (SMALL, LARGE):
            assert await put_many(storage, list(part.values())) is None


@pytest.fixture
def settings(tmp_path: Path) -> SqliteSettings:
    made = settings_for(tmp_path)
    asyncio.run(fill(made))
    return made


def change(path: Path, text: str, values: Sequence[object] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(text, values).rowcount


def notes(path: Path) -> dict[int, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT note, value FROM upkeep WHERE note >= 30"))


async def whole(scrub: Scrubbing, rate: int = 0) -> ScrubStatus:
    """Ask, and wait for the end."""
    status = await scrub.ask(rate)
    await asyncio.wait_for(scrub.ended(), 30)
    return status


def test_a_sound_store_is_sound(settings: SqliteSettings) -> None:
    async def main() -> None:
        async with scrubbing(settings) as (_, scrub):
            status = await whole(scrub)
            assert (status.blocks, status.bad) == (340, 0)
            assert status.bytes == status.of == 300 * 1024 + 40 * 32768
            assert not status.is_failed

    asyncio.run(main())


def test_bad_blocks_are_dropped_and_may_come_again(
    settings: SqliteSettings, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [*list(SMALL)[5:250:60], *list(LARGE)[3::20]]
    for name in bad:
        change(settings.path, SPOIL, (name,))

    async def main() -> None:
        async with scrubbing(settings) as (storage, scrub):
            assert (await whole(scrub)).bad == len(bad)
            expected = [None if name in bad else block for name, block in BLOCKS.items()]
            assert await get_many(storage, list(BLOCKS)) == expected
            assert (await storage.totals())[0] == {1024: 295, 32768: 38}
            assert (await whole(scrub)).bad == 0
            for part in (SMALL, LARGE):
                assert await put_many(storage, list(part.values())) is None
            assert await get_many(storage, list(BLOCKS)) == list(BLOCKS.values())
            assert (await storage.totals())[0] == {1024: 300, 32768: 40}

    asyncio.run(main())
    assert check(settings.path).is_sound
    assert [r.levelname for r in caplog.records].count("ERROR") == 1


def test_a_pin_lacks_what_was_dropped_until_it_comes_again(settings: SqliteSettings) -> None:
    [bad, *others] = SMALL

    async def main() -> None:
        async with scrubbing(settings) as (storage, scrub):
            pin = await storage.pinning.open(1000)
            assert all(await storage.pinning.want(pin, list(SMALL)))
            await storage.pinning.close(
                pin, name="notes", root=others[0], lend=False, keep=True, incomplete=False
            )
            change(settings.path, SPOIL, (bad,))
            assert (await whole(scrub)).bad == 1
            [[summary], _] = await storage.pinning.list(1000, None, 100)
            assert (summary.small, summary.missing) == (299, 1)
            assert await put_many(storage, [SMALL[bad]]) is None
            [[summary], _] = await storage.pinning.list(1000, None, 100)
            assert (summary.small, summary.missing) == (300, 0)

    asyncio.run(main())
    assert check(settings.path).is_sound


def test_what_somebody_holds_stays_until_the_next_look(settings: SqliteSettings) -> None:
    [bad, *_] = SMALL
    change(settings.path, SPOIL, (bad,))

    async def main() -> None:
        async with scrubbing(settings) as (storage, scrub):
            pin = await storage.pinning.open(1000)
            assert await storage.pinning.want(pin, [bad]) == [True]
            assert (await whole(scrub)).bad == 1
            # A good one that comes takes its place.
            assert await put_many(storage, [SMALL[bad]]) is None
            summary = await storage.pinning.close(
                pin, name="notes", root=bad, lend=False, keep=True, incomplete=False
            )
            assert (summary.small, summary.missing) == (1, 0)
            assert await get_many(storage, [bad]) == [SMALL[bad]]

    asyncio.run(main())


def test_what_cannot_be_read_spoils_nothing_else(settings: SqliteSettings) -> None:
    """A page of small blocks, and one that a large block goes on."""
    [large, *_] = LARGE
    break_overflow(settings.path, LARGE[large])
    lost = write_page(settings.path, list(SMALL.values())[100], bytes(16384))
    gone = {large, *(name for name, block in SMALL.items() if block in lost)}

    async def main() -> None:
        async with scrubbing(settings) as (storage, scrub):
            assert (await whole(scrub)).bad == len(gone)
            expected = [None if name in gone else block for name, block in BLOCKS.items()]
            assert await get_many(storage, list(BLOCKS)) == expected
            for part in (SMALL, LARGE):
                assert await put_many(storage, list(part.values())) is None
            assert await get_many(storage, list(BLOCKS)) == list(BLOCKS.values())

    asyncio.run(main())


def test_a_block_that_is_healed_meanwhile_stays(
    settings: SqliteSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name, *_] = SMALL
    change(settings.path, SPOIL, (name,))
    drop_bad = dropping.drop_bad

    def late(writer: object, suspects: Sequence[int]) -> int:
        # As if it had come between the look and the drop.
        assert len(suspects) == 1
        writer.put_many({name: SMALL[name]})  # type: ignore[attr-defined]
        return drop_bad(writer, suspects)  # type: ignore[arg-type]

    monkeypatch.setattr(backend_module, "drop_bad", late)

    async def main() -> None:
        async with scrubbing(settings) as (storage, scrub):
            assert (await whole(scrub)).bad == 0
            assert await get_many(storage, [name]) == [SMALL[name]]

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_the_background_goes_on_where_it_was(settings: SqliteSettings) -> None:
    """Each start looks at what is left, and after the last block there is a rest."""

    async def main() -> None:
        seen = 0
        async with scrubbing(settings, 2**20) as (_, scrub):
            await until(lambda: scrub.looked_at)
            await scrub.stop()
            seen = scrub.looked_at
        assert 0 < seen < 340
        assert notes(settings.path) == {30: seen, 31: 10**9}
        async with scrubbing(settings, 2**30) as (storage, scrub):
            await until(lambda: seen + scrub.looked_at >= 340)
            await until(lambda: 30 not in notes(settings.path))
            assert scrub.looked_at == 340 - seen
        assert notes(settings.path) == {31: 10**9}
        day = 24 * 3600
        async with scrubbing(settings, 2**30, 1e9 + 29 * day) as (storage, scrub):
            await storage.totals()
            assert scrub.looked_at == 0
        async with scrubbing(settings, 2**30, 1e9 + 31 * day) as (_, scrub):
            await until(lambda: scrub.looked_at == 340)

    asyncio.run(main())


def test_in_the_background_bad_blocks_are_dropped_too(settings: SqliteSettings) -> None:
    [name, *_] = SMALL
    change(settings.path, SPOIL, (name,))

    async def main() -> None:
        async with scrubbing(settings, 2**30) as (storage, scrub):
            await until(lambda: scrub.bad_blocks == 1)
            assert await get_many(storage, [Reference(name)]) == [None]

    asyncio.run(main())


def test_what_was_asked_for_can_be_ended(settings: SqliteSettings) -> None:
    async def main() -> None:
        async with scrubbing(settings) as (_, scrub):
            status = await scrub.ask(1)
            again = await scrub.ask(1)
            assert again is status
            await until(lambda: status.blocks)
            scrub.end()
            await until(lambda: not status.is_running)
            assert status.is_failed
            assert (await whole(scrub)).run == 2

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(4))
def test_what_is_ended_at_once_does_not_run(settings: SqliteSettings, steps: int) -> None:
    async def main() -> None:
        async with scrubbing(settings) as (_, scrub):
            asked = asyncio.ensure_future(scrub.ask(1))
            for _ in range(steps):
                await asyncio.sleep(0)
            scrub.end()
            await asked
            scrub.end()
            await scrub.ended()
            await asyncio.sleep(0)
            assert (scrub.status.run, scrub.status.is_running) == (1, False)
            assert scrub.status.is_failed
            # And it can be asked for again.
            await scrub.ask()
            await scrub.ended()
            assert not scrub.status.is_failed
            assert scrub.status.blocks == len(BLOCKS)

    asyncio.run(main())

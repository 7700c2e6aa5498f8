"""The threads of a store, from start to end: cancelled, failing, closed, full, damaged."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, ErisError, StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite import backend as backend_module
from kapla.storage.sqlite.backend import SqliteBackend
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.session import SqliteReader
from kapla.storage.sqlite.state import Database
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    opened,
    put_many,
    settings_for,
)


def test_an_open_that_is_cancelled_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its steps: the file, the writer, the reader, the finder."""
    before = threading.active_count()

    async def main(step: int) -> None:
        storage = BatchedStorage(settings_for(tmp_path))
        entered, go = threading.Event(), threading.Event()
        left = [step]

        def pause() -> None:
            left[0] -= 1
            if left[0] < 0:
                entered.set()
                assert go.wait(30)

        def slow_open(settings: SqliteSettings) -> Database:
            pause()
            return open_database(settings)

        def slowly(step: Callable[[SqliteBackend], object]) -> Callable[[SqliteBackend], object]:
            def slow(self: SqliteBackend) -> object:
                pause()
                return step(self)

            return slow

        with monkeypatch.context() as patched:
            for name in ("writer", "reader"):
                patched.setattr(SqliteBackend, name, slowly(getattr(SqliteBackend, name)))
            patched.setattr(backend_module, "open_database", slow_open)
            opening = asyncio.ensure_future(storage.open())
            await asyncio.to_thread(entered.wait, 30)
            opening.cancel()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await storage.close()

    for step in range(4):
        asyncio.run(main(step))
        assert threading.active_count() == before
        assert [file.name for file in tmp_path.iterdir()] == ["blocks.sqlite"]


@pytest.mark.parametrize("step", [0, 1])
def test_a_session_that_fails_ends_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = threading.active_count()
    opened_readers: list[object] = []
    start = SqliteReader.__init__

    def fail(self: SqliteReader, database: Database) -> None:
        opened_readers.append(self)
        if len(opened_readers) > step:
            raise StorageError("no more connections")
        start(self, database)

    monkeypatch.setattr(SqliteReader, "__init__", fail)

    async def main() -> None:
        storage = BatchedStorage(settings_for(tmp_path))
        with pytest.raises(StorageError, match="no more connections"):
            await storage.open()
        await storage.close()
        await storage.close()

    asyncio.run(main())
    assert threading.active_count() == before


def test_after_its_end_a_store_refuses(tmp_path: Path) -> None:
    blocks = make_blocks(2) | make_blocks(2, BlockSize.LARGE)

    async def main() -> None:
        storage = BatchedStorage(settings_for(tmp_path))
        await storage.open()
        await storage.close()
        async with asyncio.timeout(30):
            for block in blocks.values():
                assert isinstance(await put_many(storage, [block]), StoreUnavailable)
            assert isinstance(await get_many(storage, list(blocks)), StoreUnavailable)
            with pytest.raises(StoreUnavailable):
                await storage.totals()

    asyncio.run(main())


def test_a_callback_is_called_once_even_if_it_fails(tmp_path: Path) -> None:
    calls: list[object] = []

    def fail(result: object) -> None:
        calls.append(result)
        raise RuntimeError("a peer's own fault")

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            storage.put_many(list(make_blocks(1).values()), fail)
            assert await put_many(storage, list(make_blocks(1, seed=1).values())) is None

    asyncio.run(main())
    assert calls == [None]


# --- totals -------------------------------------------------------------------------------------


def test_all_who_ask_for_the_totals_share_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    look = SqliteReader.database_bytes

    def counted(self: SqliteReader) -> int:
        looks.append(self)
        return look(self)

    monkeypatch.setattr(SqliteReader, "database_bytes", counted)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put_many(storage, list(make_blocks(3).values()))
            answers = await asyncio.gather(*[storage.totals() for _ in range(500)])
            assert {size for _, size in answers} == {answers[0][1]}
            assert all(blocks == {1024: 3, 32768: 0} for blocks, _ in answers)
            assert len(looks) == 1
            # One who goes takes nothing from the others.
            gone, *rest = [asyncio.ensure_future(storage.totals()) for _ in range(5)]
            await asyncio.sleep(0)
            gone.cancel()
            assert await asyncio.gather(*rest) == [answers[0]] * 4
            await put_many(storage, list(make_blocks(1, seed=1).values()))
            assert (await storage.totals())[0] == {1024: 4, 32768: 0}

    asyncio.run(main())


@pytest.mark.parametrize("value", ["NULL", "-1", "'x'", "x'00'", "1.5"])
def test_damaged_totals_are_counted_anew(tmp_path: Path, value: str) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(50)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    with closing(sqlite3.connect(settings.path)) as connection, connection:
        connection.execute("ALTER TABLE totals RENAME TO old")
        connection.execute("CREATE TABLE totals (block_size INTEGER PRIMARY KEY, blocks)")
        connection.execute(f"INSERT INTO totals VALUES (1024, {value}), (32768, 0)")
        connection.execute("DROP TABLE old")

    async def main() -> None:
        async with batched(settings) as storage:
            assert (await storage.totals())[0] == {1024: 50, 32768: 0}
            assert await put_many(storage, list(make_blocks(5, seed=1).values())) is None
            assert (await storage.totals())[0] == {1024: 55, 32768: 0}

    asyncio.run(main())


# --- what is said -------------------------------------------------------------------------------


def test_a_full_store_says_so_once_and_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = list(make_blocks(100, BlockSize.LARGE).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=1 << 20, when_full="refuse")) as storage:
            answers = await asyncio.gather(*[put_many(storage, [block]) for block in blocks])
            refused = sum(answer not in (None, [None]) for answer in answers)
            assert 0 < refused < 100
            assert storage.full_blocks == refused
            for block in blocks:
                await put_many(storage, [block])
            assert storage.full_blocks == 2 * refused

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    told = [record.message for record in caplog.records]
    # That it is nearly full comes when the writer has time, before or after.
    assert [message for message in told if not message.startswith("The store has reached")] == [
        "New blocks are refused: the store is full: it has reached max-size"
    ]


def test_a_failure_is_logged_once_and_again_after_it_was_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [name] = make_blocks(1)

    def fail(*_: object) -> object:
        raise TypeError("of our own making")

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            for _ in range(2):
                with monkeypatch.context() as failing:
                    failing.setattr(SqliteReader, "get_many", fail)
                    for _ in range(20):
                        assert isinstance(await get_many(storage, [name]), StoreUnavailable)
                assert await get_many(storage, [name]) == [None]

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    said = [record.message for record in caplog.records]
    assert (
        said == ["The store failed: TypeError", "The store failed: TypeError: 20 times in all"] * 2
    )
    assert sum(record.exc_info is not None for record in caplog.records) == 2


# --- damage while it is open --------------------------------------------------------------------


def test_an_index_that_is_found_damaged_is_made_anew_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is refused, and in the end everything is found."""
    settings, blocks = settings_for(tmp_path, generation=100), make_blocks(3000)
    names = list(blocks)
    with opened(settings) as store:
        for start in range(0, 3000, 100):
            store.writer.put_many({name: blocks[name] for name in names[start : start + 100]})
    with closing(sqlite3.connect(settings.path)) as connection:
        pages = [
            page
            for (page,) in connection.execute(
                "SELECT pageno FROM dbstat WHERE name = 'places' AND pagetype = 'leaf'"
            )
        ]
    with settings.path.open("r+b") as file:
        file.seek((pages[1] - 1) * 16384)
        file.write(bytes(16384))
    # As with an index that is too large to be looked at when it is opened.
    monkeypatch.setattr("kapla.storage.sqlite.loading._SMALL", 0)

    async def main() -> None:
        async with batched(settings) as storage, asyncio.timeout(60):
            await get_many(storage, names)
            for seed in range(1, 20):
                new = make_blocks(100, seed=seed)
                assert await put_many(storage, list(new.values())) is None
                assert await get_many(storage, list(new)) == list(new.values())
            while await get_many(storage, names) != list(blocks.values()):
                # The next round of the writer brings the next piece.
                assert await put_many(storage, list(new.values())) is None
            assert (await storage.totals())[0] == {1024: 4900, 32768: 0}

    asyncio.run(main())
    with closing(sqlite3.connect(settings.path)) as connection:
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    "value", ["CAST(block AS TEXT)", "5", "zeroblob(3)", "1.5", "block || 'x'"]
)
def test_a_value_of_another_kind_spoils_nothing_else(tmp_path: Path, value: str) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(60)
    names = list(blocks)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    with closing(sqlite3.connect(settings.path)) as connection, connection:
        connection.execute(f"UPDATE blocks SET block = {value} WHERE reference = ?", (names[30],))
    readable = blocks[names[30]] if value.startswith("CAST") else None
    expected = [readable if at == 30 else blocks[name] for at, name in enumerate(names)]

    async def main() -> None:
        async with batched(settings) as storage:
            assert await get_many(storage, names) == expected
            answers: Sequence[object] | ErisError | None
            answers = await put_many(storage, list(blocks.values()))
            assert answers is None
            assert await get_many(storage, names) == list(blocks.values())
            assert (await storage.totals())[0] == {1024: 60, 32768: 0}

    asyncio.run(main())

"""Group commit and batched reads: everybody is answered, whatever happens in the threads."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from eris import BlockSize, ErisError, Reference, StoreRefused, StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.batching import BatchedStorage
from kapla.storage.port import Promise
from kapla.storage.sqlite.database import SqliteSettings
from kapla.storage.sqlite.writer import PutResult, SqliteReader, SqliteWriter
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    opened,
    put_many,
    settings_for,
)


def committed(path: Path) -> int:
    """How many blocks another process would see now."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM blocks").fetchone()
        return int(count)


def test_all_concurrent_puts_are_answered_after_their_commit(tmp_path: Path) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(900)
    seen: list[int] = []

    async def main() -> None:
        async with batched(settings) as storage:

            async def put(part: Sequence[bytes]) -> None:
                assert await put_many(storage, part) is None
                seen.append(committed(settings.path))

            everything = list(blocks.values())
            await asyncio.gather(*[put(everything[i : i + 9]) for i in range(0, 900, 9)])
            assert storage.new_blocks == 900

    asyncio.run(main())
    # At each answer there was at least as much as had been answered.
    assert len(seen) == 100
    assert all(count >= 9 * number for number, count in enumerate(seen, 1))


def test_answers_keep_the_order_of_what_was_asked(tmp_path: Path) -> None:
    blocks, absent = make_blocks(300), make_blocks(300, seed=1)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            assert await put_many(storage, list(blocks.values())) is None
            mixed = [name for pair in zip(blocks, absent, strict=True) for name in pair]
            expected = [blocks.get(name) for name in mixed]
            answers = await asyncio.gather(
                *[get_many(storage, mixed[i : i + 7]) for i in range(0, 600, 7)]
            )
            assert [block for answer in answers for block in answer] == expected  # type: ignore[union-attr]

    asyncio.run(main())


def test_more_than_a_round_in_one_call(tmp_path: Path) -> None:
    blocks = make_blocks(2000)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            assert await put_many(storage, list(blocks.values())) is None
            assert await get_many(storage, list(blocks)) == list(blocks.values())

    asyncio.run(main())


def test_one_block_from_many_at_once_is_kept_once(tmp_path: Path) -> None:
    [(reference, block)] = make_blocks(1).items()

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            answers = await asyncio.gather(*[put_many(storage, [block]) for _ in range(200)])
            assert answers == [None] * 200
            assert storage.new_blocks == 1
            assert (await storage.totals())[0] == {1024: 1, 32768: 0}
            assert await get_many(storage, [reference]) == [block]

    asyncio.run(main())


def test_totals_count_both_sizes(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put_many(storage, list(make_blocks(3).values()))
            await put_many(storage, list(make_blocks(2, BlockSize.LARGE).values()))
            blocks, database_bytes = await storage.totals()
            assert blocks == {1024: 3, 32768: 2}
            assert database_bytes > 3 * 1024 + 2 * 32768

    asyncio.run(main())


def test_only_what_is_over_the_quota_is_refused(tmp_path: Path) -> None:
    blocks = list(make_blocks(100, BlockSize.LARGE).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=1 << 20, when_full="refuse")) as storage:
            answers = await asyncio.gather(*[put_many(storage, [block]) for block in blocks])
            refused = [answer[0] for answer in answers if isinstance(answer, list) and answer[0]]
            assert 0 < len(refused) < 100
            assert all(isinstance(error, StoreRefused) for error in refused)
            assert all("max-size" in str(error) for error in refused)

    asyncio.run(main())


# --- failures ---------------------------------------------------------------------------------


class Failing:
    """Stands before a session: fails as long as it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    fault = Failing()
    put, get = SqliteWriter.put_many, SqliteReader.get_many

    def put_or_fail(
        self: SqliteWriter, blocks: dict[Reference, bytes], promises: Sequence[Promise] = ()
    ) -> PutResult:
        fault.check()
        return put(self, blocks, promises)

    def get_or_fail(self: SqliteReader, references: Sequence[Reference]) -> dict[Reference, bytes]:
        fault.check()
        return get(self, references)

    monkeypatch.setattr(SqliteWriter, "put_many", put_or_fail)
    monkeypatch.setattr(SqliteReader, "get_many", get_or_fail)
    return fault


@pytest.mark.parametrize(
    "error", [StoreUnavailable("the disk is full"), MemoryError(), RuntimeError("a bug")]
)
def test_a_failing_store_answers_everybody_and_lives_on(
    tmp_path: Path, failing: Failing, error: Exception
) -> None:
    blocks = make_blocks(50)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            failing.error = error
            answers: list[object] = [
                *await asyncio.gather(*[put_many(storage, [block]) for block in blocks.values()]),
                *await asyncio.gather(*[get_many(storage, [name]) for name in blocks]),
            ]
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert len(answers) == 100
            failing.error = None
            assert await put_many(storage, list(blocks.values())) is None
            assert await get_many(storage, list(blocks)) == list(blocks.values())

    asyncio.run(main())


def test_a_callback_that_fails_keeps_no_answer_from_others(tmp_path: Path) -> None:
    blocks = list(make_blocks(3).values())
    complaints: list[object] = []

    def fail(result: object) -> None:
        raise RuntimeError("a peer's own fault")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with batched(settings_for(tmp_path)) as storage:
            # In one round, most likely; the order of delivery is that of handing in.
            storage.put_many(blocks[:1], fail)
            assert await asyncio.wait_for(put_many(storage, blocks[1:]), 30) is None

    asyncio.run(main())


def test_close_finishes_what_was_handed_in(tmp_path: Path) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(3000)
    answers: list[Sequence[ErisError | None] | ErisError | None] = []

    async def main() -> None:
        storage = BatchedStorage(settings)
        await storage.open()
        for block in blocks.values():
            storage.put_many([block], answers.append)
        await storage.close()

    asyncio.run(main())
    assert answers == [None] * 3000
    with opened(settings) as store:
        assert store.reader.get_many(list(blocks)) == blocks


def test_close_empties_the_wal_and_ends_the_threads(tmp_path: Path) -> None:
    before = threading.active_count()

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await put_many(storage, list(make_blocks(100).values()))
            assert (tmp_path / "blocks.sqlite-wal").stat().st_size > 0

    asyncio.run(main())
    assert [file.name for file in tmp_path.iterdir()] == ["blocks.sqlite"]
    assert threading.active_count() == before


def test_a_store_that_cannot_be_opened_starts_no_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "blocks.sqlite").mkdir()

    async def main() -> None:
        storage = BatchedStorage(settings_for(tmp_path))
        with pytest.raises(StorageError):
            await storage.open()
        await storage.close()

    asyncio.run(main())
    assert threading.active_count() == before


def test_a_session_that_cannot_be_opened_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()

    def fail(self: SqliteReader, *args: object) -> None:
        raise StorageError("no more connections")

    monkeypatch.setattr(SqliteReader, "__init__", fail)

    async def main() -> None:
        storage = BatchedStorage(settings_for(tmp_path))
        with pytest.raises(StorageError, match="no more connections"):
            await storage.open()
        await storage.close()

    asyncio.run(main())
    assert threading.active_count() == before


# --- killed in the middle ---------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.database import SqliteSettings
from tests.kapla.storage.databases import make_blocks, put_many

async def main():
    storage = BatchedStorage(SqliteSettings(Path(sys.argv[1])))
    await storage.open()
    for seed in range(1000):
        assert await put_many(storage, list(make_blocks(20, seed=seed).values())) is None
        print(seed, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("rounds", [1, 7, 40])
def test_killed_in_the_middle(tmp_path: Path, rounds: int) -> None:
    settings = SqliteSettings(tmp_path / "blocks.sqlite")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(settings.path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(rounds)]
        process.kill()
    with opened(settings) as store:
        for seed in acknowledged:
            blocks = make_blocks(20, seed=seed)
            assert store.reader.get_many(list(blocks)) == blocks
        kept = store.reader.totals()[1024]
        # A commit is whole or not there at all, and the count is that of the blocks.
        assert kept % 20 == 0
        assert kept == committed(settings.path)
        assert store.writer.put_many(make_blocks(20, seed=5000)).added == 20
    with closing(sqlite3.connect(settings.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

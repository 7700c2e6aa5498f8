"""What disks, want of memory and careless hands do to a store, and what they leave alone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from eris import BlockSize, Reference, StoreUnavailable
from kapla.storage import hashing as hashing_module
from kapla.storage.sqlite import recent as recent_module
from kapla.storage.sqlite.damage import drop_table, renew_table
from kapla.storage.sqlite.recent import GENERATION
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    opened,
    put_many,
    settings_for,
)


def overwrite(path: Path, reference: Reference, content: bytes) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        done = connection.execute(
            "UPDATE blocks SET block = ? WHERE reference = ?", (content, reference)
        )
        assert done.rowcount == 1


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
@pytest.mark.parametrize("length", [0, 7, 1024, 32768])
def test_a_damaged_block_is_healed_by_a_good_one(
    tmp_path: Path, size: BlockSize, length: int
) -> None:
    blocks = make_blocks(3, size)
    [damaged, *_] = blocks
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(blocks)
    overwrite(tmp_path / "blocks.sqlite", damaged, bytes(length))
    with opened(settings_for(tmp_path)) as store:
        # What has not this hash is no better.
        store.writer.put_many({damaged: bytes([1]) * size})
        found = {damaged: bytes(length)} if length in list(BlockSize) else {}
        assert store.reader.get_many([damaged]) == found
        assert store.writer.put_many(blocks) == (0, frozenset())
        assert store.reader.get_many(list(blocks)) == blocks
        assert sum(store.reader.totals().values()) == 3


def break_overflow(path: Path, block: bytes) -> None:
    """Let the chain of pages that a large block is on lead nowhere."""
    with closing(sqlite3.connect(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        at = file.read().index(block[5000:5100])
        file.seek(at - at % page_size)
        file.write(b"\xff\xff\xff\xf0")


def test_a_damaged_page_spoils_nothing_else(tmp_path: Path) -> None:
    blocks, new = make_blocks(50, BlockSize.LARGE), make_blocks(50, BlockSize.LARGE, seed=1)
    [damaged, *others] = blocks
    settings = settings_for(tmp_path)

    async def fill() -> None:
        async with batched(settings) as storage:
            assert await put_many(storage, list(blocks.values())) is None

    async def main() -> None:
        async with batched(settings) as storage:
            answers = await asyncio.gather(
                get_many(storage, list(blocks)),
                *[get_many(storage, [reference]) for reference in blocks],
            )
            expected = [None, *[blocks[reference] for reference in others]]
            assert answers == [expected, *[[block] for block in expected]]
            kept = await asyncio.gather(
                put_many(storage, [blocks[damaged]]),
                *[put_many(storage, [block]) for block in new.values()],
            )
            assert kept == [None] * 51
            assert await get_many(storage, list(new)) == list(new.values())
            # The good one that came is kept beside the damaged one.
            assert await get_many(storage, list(blocks)) == list(blocks.values())
            assert (await storage.totals())[0] == {1024: 0, 32768: 100}

    asyncio.run(fill())
    break_overflow(settings.path, blocks[damaged])
    asyncio.run(main())


def test_no_memory_for_the_next_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is found, then and later."""
    parts = [make_blocks(5000, seed=seed) for seed in range(GENERATION // 5000 * 3)]
    with opened(settings_for(tmp_path)) as store:
        failed = 0
        for part in parts:
            if not failed:
                # Only the change of generations sorts.
                monkeypatch.setattr(recent_module, "sorted", no_memory, raising=False)
            try:
                store.writer.put_many(part)
            except MemoryError:
                failed += 1
                monkeypatch.delattr(recent_module, "sorted")
                store.writer.put_many(part)
        assert failed == 1
        for part in parts:
            assert store.reader.get_many(list(part)) == part
    with opened(settings_for(tmp_path)) as store:
        for part in parts:
            assert store.reader.get_many(list(part)) == part


def no_memory(*_: object) -> bool:
    raise MemoryError


def test_a_hasher_without_memory_lives_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block, *_] = make_blocks(1, BlockSize.LARGE).values()

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            with monkeypatch.context() as without_memory:
                without_memory.setattr(hashing_module, "reference_of", no_memory)
                assert isinstance(await put_many(storage, [block]), StoreUnavailable)
            assert await put_many(storage, [block]) is None

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_done(tmp_path: Path) -> None:
    blocks = make_blocks(10, BlockSize.LARGE)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            answers: asyncio.Queue[object] = asyncio.Queue()
            storage.put_many(list(blocks.values()), answers.put_nowait, lambda: False)
            storage.get_many(list(blocks), answers.put_nowait, lambda: False)
            storage.find_many(list(blocks), answers.put_nowait, lambda: False)
            for _ in range(3):
                assert isinstance(await answers.get(), StoreUnavailable)
            assert await get_many(storage, list(blocks)) == [None] * 10

    asyncio.run(main())


def test_without_its_wal_the_store_takes_nothing(tmp_path: Path) -> None:
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(make_blocks(1))
        (tmp_path / "blocks.sqlite-wal").unlink()
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            store.writer.put_many(make_blocks(2, seed=1))


class Unwritable:
    """A connection to a disk that takes nothing just now."""

    code = sqlite3.SQLITE_IOERR_WRITE

    def __init__(self, inner: sqlite3.Connection) -> None:
        self.inner = inner

    @property
    def in_transaction(self) -> bool:
        return self.inner.in_transaction

    def execute(self, text: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if text.startswith("DROP"):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return self.inner.execute(text, values)


class Undroppable(Unwritable):
    """A connection to a file in which a table is damaged."""

    code = sqlite3.SQLITE_CORRUPT


def test_a_table_that_cannot_be_dropped_just_now_is_not_forgotten(tmp_path: Path) -> None:
    """Its pages would belong to nothing for ever after."""
    with opened(settings_for(tmp_path)) as store:
        connection = store.writer._connection
        with pytest.raises(sqlite3.OperationalError):
            drop_table(cast(sqlite3.Connection, Unwritable(connection)), "recent")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        assert connection.execute("SELECT count(*) FROM recent").fetchall() == [(0,)]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_table_is_replaced_in_one_piece(tmp_path: Path, is_damaged: bool) -> None:
    """Whoever looks at any moment, as after a crash, finds the one or the other."""
    with opened(settings_for(tmp_path)) as store:
        connection = cast(sqlite3.Connection, Undroppable(store.writer._connection))
        connection = connection if is_damaged else store.writer._connection
        with closing(sqlite3.connect(tmp_path / "blocks.sqlite")) as other:
            found: list[object] = []

            def look(_: str) -> None:
                text = "SELECT count(*) FROM sqlite_master WHERE name = 'totals'"
                found.extend(other.execute(text).fetchone())

            store.writer._connection.set_trace_callback(look)
            renew_table(connection, "totals")
            assert len(found) > 3
            assert set(found) == {1}
            assert other.execute("SELECT * FROM totals").fetchall() == []
    with closing(sqlite3.connect(tmp_path / "blocks.sqlite")) as connection:
        # What cannot be dropped leaves pages behind.
        is_sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert is_sound != is_damaged

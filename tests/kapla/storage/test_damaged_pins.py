"""Tables of pins that are damaged: nothing is lost by it, and the store opens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eris import Reference, StoreUnavailable
from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.keeping import books
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

OWNER = 1000
BLOCKS = make_blocks(60)


async def fill(storage: BatchedStorage) -> None:
    """Three pins, one of which lacks something and has got something; and what is in none."""
    blocks = list(BLOCKS.values())
    await put_many(storage, blocks[50:])
    for number, name in enumerate("abc"):
        pin = await storage.pinning.open(OWNER)
        await under_pin(storage, blocks[10 * number : 10 * number + 10], pin)
        if name == "c":
            await storage.pinning.want(pin, list(BLOCKS)[30:40])
        await storage.pinning.close(pin, name=name, incomplete=True)
    await put_many(storage, blocks[30:35])


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Path]:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            await fill(storage)

    asyncio.run(main())
    yield settings_for(tmp_path).path


def execute(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(text)


def root_page(path: Path, name: str) -> tuple[int, int]:
    """Where a table begins, in bytes, and how long a page is."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return (page - 1) * size, size


def spoil(path: Path, name: str) -> None:
    start, size = root_page(path, name)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)


async def pins_of(storage: BatchedStorage) -> dict[str, tuple[int, int]]:
    found, _ = await storage.pinning.list(None, None, 9)
    return {pin.name: (pin.small, pin.missing) for pin in found}


def check_all_is_kept(tmp_path: Path, expected: dict[str, tuple[int, int]]) -> None:
    async def main() -> None:
        for _ in range(2):
            async with batched(settings_for(tmp_path)) as storage:
                there = {name: block for name, block in BLOCKS.items() if name not in lacking()}
                assert await get_many(storage, list(there)) == list(there.values())
                assert await pins_of(storage) == expected
                assert len(keeping_of(storage).kept) == (45 if "salvaged" in expected else 35)
        # Pins can be made, and what was missing still comes.
        async with batched(settings_for(tmp_path)) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(BLOCKS.values()), pin)
            await storage.pinning.close(pin, name="new")
            assert (await pins_of(storage))["new"] == (60, 0)

    asyncio.run(main())
    with closing(sqlite3.connect(settings_for(tmp_path).path)) as connection:
        assert connection.execute("SELECT count(*) FROM blocks").fetchone() == (60,)


def lacking() -> list[Reference]:
    return list(BLOCKS)[35:50]


def test_a_pin_whose_blocks_cannot_be_read(
    filled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    execute(
        filled, "UPDATE pins SET small = x'00' || substr(small, 2) WHERE name = CAST('a' AS BLOB)"
    )
    check_all_is_kept(tmp_path, {"salvaged": (45, 0), "b": (10, 0), "c": (15, 5)})
    assert "salvaged" in caplog.text


@pytest.mark.parametrize("name", ["pins", "arrivals"])
def test_a_table_that_cannot_be_read(
    filled: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    if name == "arrivals":
        execute(filled, "INSERT INTO arrivals SELECT id, 47, 1024 FROM pins LIMIT 1")
    spoil(filled, name)
    with opened(settings_for(tmp_path)) as sessions:
        found, _ = sessions.writer.pins.page(None, (-1, ""), 9)
        assert found[0].name == "salvaged"
    expected = {"salvaged": (45, 0)}
    if name == "arrivals":
        # What has come for the last one is not known any more, and kept all the same.
        expected |= {"a": (10, 0), "b": (10, 0), "c": (10, 5)}
    check_all_is_kept(tmp_path, expected)
    assert "salvaged" in caplog.text


@pytest.mark.parametrize("name", ["wanted", "wanted_by_pin"])
def test_what_pins_lack_cannot_be_read(
    filled: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(filled, name)
    check_all_is_kept(tmp_path, {"a": (10, 0), "b": (10, 0), "c": (15, 5)})
    assert "lack" in caplog.text


@pytest.mark.parametrize("name", ["pins", "arrivals", "wanted"])
def test_a_table_that_is_not_there(filled: Path, tmp_path: Path, name: str) -> None:
    """As after a power cut while it was made anew."""
    execute(filled, f"DROP TABLE {name}")
    expected = {"a": (10, 0), "b": (10, 0), "c": (15, 0 if name == "wanted" else 5)}
    if name == "arrivals":
        expected["c"] = (10, 5)
    if name == "pins":
        expected = {}
    if name != "wanted":
        expected["salvaged"] = (45, 0)
    check_all_is_kept(tmp_path, expected)


@pytest.mark.parametrize("name", ["wanted", "pins", "arrivals"])
def test_damage_that_comes_while_the_store_is_open(filled: Path, tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            spoil(filled, name)
            # Blocks are kept whatever becomes of the tables beside them.
            assert await put_many(storage, list(BLOCKS.values())) is None
            with contextlib.suppress(StoreUnavailable):
                await storage.pinning.list(None, None, 9)
            kept = len(keeping_of(storage).kept)
            assert kept >= 30
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(BLOCKS.values()), pin)
            with contextlib.suppress(StoreUnavailable):
                await storage.pinning.close(pin, name="new")
            if storage.pinning.has(pin):
                await storage.pinning.close(pin, name="new")
            assert (await pins_of(storage))["new"] == (60, 0)
            assert len(keeping_of(storage).kept) >= kept

    asyncio.run(main())


def test_a_table_that_cannot_even_be_made_anew(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_connection: sqlite3.Connection) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    spoil(filled, "pins")
    monkeypatch.setattr(books, "salvage", fail)

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            assert "all blocks are kept" in caplog.text
            assert len(keeping_of(storage).kept) == 45
            assert await put_many(storage, list(BLOCKS.values())) is None
            assert await get_many(storage, list(BLOCKS)) == list(BLOCKS.values())
            with pytest.raises(StoreUnavailable):
                await storage.pinning.list(None, None, 9)
            assert len(keeping_of(storage).kept) == 45

    asyncio.run(main())

"""`kaplad --check` over what is seen through the port, as a database is: here of a file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kapla.database_care import check_database
from kapla.errors import StorageError
from kapla.storage.sqlite.state import SqliteSettings
from tests.kapla.storage.databases import batched, make_blocks, put_many


def look(path: Path) -> tuple[bool, list[str]]:
    said: list[str] = []
    return check_database(SqliteSettings(path), said.append), said


@pytest.fixture
def store(tmp_path: Path) -> Path:
    async def main() -> None:
        async with batched(SqliteSettings(tmp_path / "blocks")) as storage:
            assert await put_many(storage, list(make_blocks(700).values())) is None

    asyncio.run(main())
    return tmp_path / "blocks"


def change(store: Path, statement: str) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def test_all_is_well(store: Path) -> None:
    assert look(store) == (True, [f"700 blocks in {SqliteSettings(store)}: the store is sound"])


def test_a_block_that_is_another(store: Path) -> None:
    change(
        store, "UPDATE blocks SET block = zeroblob(1024) WHERE id = (SELECT min(id) FROM blocks)"
    )
    is_sound, said = look(store)
    assert not is_sound
    assert said[0].startswith("not what their references say: 1 block;")
    assert said[-1].endswith("the store is damaged")


def test_totals_that_are_wrong(store: Path) -> None:
    change(store, "UPDATE totals SET blocks = blocks + 1 WHERE block_size = 1024")
    is_sound, said = look(store)
    assert (is_sound, said[0]) == (False, "the totals tell of 701 blocks, and there are others")


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(StorageError):
        look(tmp_path / "text")

"""Opening a store: what is made, what is refused, and what is said about it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kapla.errors import StorageError
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.schema import SCHEMA_VERSION
from kapla.storage.sqlite.writer import SqliteWriter
from tests.kapla.storage.databases import make_blocks, opened, settings_for


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run SQL beside Kapla; returns the rows of the last statement."""
    rows: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def refusal(settings: SqliteSettings) -> str:
    with pytest.raises(StorageError) as caught:
        open_database(settings)
    message = str(caught.value)
    assert str(settings.path) in message
    assert "\n" not in message
    return message


def test_what_was_kept_is_there_after_reopening(tmp_path: Path) -> None:
    settings, blocks = settings_for(tmp_path), make_blocks(10)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    for _ in range(3):
        with opened(settings) as store:
            assert store.reader.get_many(list(blocks)) == blocks
            assert store.writer.put_many(blocks).added == 0


def test_the_settings_that_cannot_be_changed_later(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    open_database(settings)
    assert execute(settings.path, "PRAGMA page_size") == [(16384,)]
    assert execute(settings.path, "PRAGMA auto_vacuum") == [(2,)]
    assert execute(settings.path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(("synchronous", "number"), [("normal", 1), ("full", 2)])
def test_synchronous_is_set_on_every_connection(
    tmp_path: Path, synchronous: str, number: int
) -> None:
    settings = SqliteSettings(tmp_path / "blocks.sqlite", synchronous=synchronous)  # type: ignore[arg-type]
    with closing(SqliteWriter(open_database(settings))) as writer:
        assert writer._connection.execute("PRAGMA synchronous").fetchone() == (number,)


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    old = os.umask(0)
    try:
        with opened(settings) as store:
            store.writer.put_many(make_blocks(1))
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert len(modes) == 3  # the database, its WAL and the WAL's index
    assert set(modes.values()) == {0o600}, modes


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    settings = SqliteSettings(tmp_path / "a" / "b" / "blocks.sqlite")
    open_database(settings)
    assert settings.path.parent.stat().st_mode & 0o777 == 0o700


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings.path.touch()
    with opened(settings) as store:
        assert store.writer.put_many(make_blocks(1)).added == 1


@pytest.mark.parametrize("name", ["a b", "a?b=c#d", "a%41b", "é", "a'b\"c", ":memory:", "file:x"])
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    settings = SqliteSettings(directory / name)
    with opened(settings) as store:
        store.writer.put_many(make_blocks(1))
    assert os.listdir(tmp_path) == [name]
    assert os.listdir(directory) == [name]
    assert settings.path.stat().st_size > 0


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    settings = SqliteSettings(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.sqlite")))
    with opened(settings) as store:
        store.writer.put_many(make_blocks(1))
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff.sqlite"]


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with opened(settings) as store:
        store.writer.put_many(make_blocks(3))
    newer = SCHEMA_VERSION + 1
    execute(settings.path, f"UPDATE kapla_schema SET version = {newer}")
    before = settings.path.read_bytes()
    message = refusal(settings)
    assert f"version {newer}" in message
    assert f"up to {SCHEMA_VERSION}" in message
    assert "newer Kapla" in message
    assert settings.path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM kapla_schema", "UPDATE kapla_schema SET version = 0", "DROP TABLE kapla_schema"],
)
def test_a_store_without_a_version_is_refused(tmp_path: Path, statement: str) -> None:
    settings = settings_for(tmp_path)
    open_database(settings)
    execute(settings.path, statement)
    assert "not a Kapla store" in refusal(settings)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    execute(settings.path, "CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)")
    before = settings.path.read_bytes()
    assert "not a Kapla store" in refusal(settings)
    assert settings.path.read_bytes() == before
    assert execute(settings.path, "SELECT * FROM mine") == [(1,)]


@pytest.mark.parametrize(
    "content", [b"garbage " * 1000, b"short", b"SQLite format 3\0" + b"x" * 99]
)
def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    settings = settings_for(tmp_path)
    settings.path.write_bytes(content)
    assert "not a database" in refusal(settings)
    assert settings.path.read_bytes() == content


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("auto_vacuum", ["NONE", "FULL"])
def test_a_database_with_other_settings_is_used(
    tmp_path: Path, page_size: int, auto_vacuum: str
) -> None:
    """As another program may leave it that made a copy."""
    settings, blocks = settings_for(tmp_path), make_blocks(20)
    with opened(settings) as store:
        store.writer.put_many(blocks)
    execute(settings.path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(settings.path)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA auto_vacuum = {auto_vacuum}")
        connection.execute("VACUUM")
    with opened(settings) as store:
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.writer.put_many(make_blocks(20, seed=1)).added == 20
        assert execute(settings.path, "PRAGMA journal_mode") == [("wal",)]


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with opened(settings) as store:
        store.writer.put_many(make_blocks(100))
        store.writer.checkpoint()
    with open(settings.path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (settings.path.stat().st_size - 100))
    assert "malformed" in refusal(settings)


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings.path.mkdir()
    assert "Is a directory" in refusal(settings)


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(SqliteSettings(tmp_path / "file" / "blocks.sqlite"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_where_one_may_not_write(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o500)
    assert "Permission denied" in refusal(SqliteSettings(directory / "blocks.sqlite"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_one_may_not_read(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    open_database(settings)
    settings.path.chmod(0)
    assert "Permission denied" in refusal(settings)


def test_a_device_is_refused(tmp_path: Path) -> None:
    message = refusal(SqliteSettings(Path("/dev/full")))
    assert "/dev/full" in message

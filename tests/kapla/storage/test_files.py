"""The store's files: removed, replaced, of the wrong kind, copied, cut short, grown."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eris import StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.sqlite import keeper as keeper_module
from kapla.storage.sqlite.database import SqliteSettings, open_database
from tests.kapla.storage.databases import make_blocks, opened, settings_for


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Another file of the same content takes its name."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def empty_one(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize("fault", [remove, replace, empty_one])
@pytest.mark.parametrize("name", ["blocks.sqlite", "blocks.sqlite-wal"])
@pytest.mark.parametrize("commits", [0, 1, 5])
def test_a_store_without_its_files_takes_nothing(
    tmp_path: Path, fault: Callable[[Path], None], name: str, commits: int
) -> None:
    with opened(settings_for(tmp_path)) as store:
        for seed in range(commits):
            store.writer.put_many(make_blocks(3, seed=seed))
        fault(tmp_path / name)
        for seed in range(2):
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                store.writer.put_many(make_blocks(3, seed=100 + seed))


@pytest.mark.parametrize("name", ["blocks.sqlite", "blocks.sqlite-wal"])
def test_files_removed_while_a_commit_is_under_way(tmp_path: Path, name: str) -> None:
    """What was committed into a file that is gone is not acknowledged."""
    with opened(settings_for(tmp_path)) as store:
        store.writer.put_many(make_blocks(3))

        def look(statement: str) -> None:
            if statement.startswith("COMMIT"):
                (tmp_path / name).unlink()

        store.writer._connection.set_trace_callback(look)
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            store.writer.put_many(make_blocks(3, seed=1))


def test_what_the_removed_wal_held_is_saved(tmp_path: Path) -> None:
    """As after SIGKILL: nothing is written when the file is only copied."""
    blocks, settings = make_blocks(100), settings_for(tmp_path)
    with opened(settings) as store:
        store.writer.put_many(blocks)
        (tmp_path / "blocks.sqlite-wal").unlink()
        with pytest.raises(StoreUnavailable):
            store.writer.put_many(make_blocks(3, seed=1))
        copy = tmp_path / "copy" / "blocks.sqlite"
        copy.parent.mkdir()
        copy.write_bytes(settings.path.read_bytes())
    with opened(SqliteSettings(copy)) as store:
        assert store.reader.get_many(list(blocks)) == blocks


def test_without_its_shared_memory_nothing_is_lost(tmp_path: Path) -> None:
    blocks = make_blocks(10)
    with opened(settings_for(tmp_path)) as store:
        (tmp_path / "blocks.sqlite-shm").unlink()
        assert store.writer.put_many(blocks).added == 10
    with opened(settings_for(tmp_path)) as store:
        assert store.reader.get_many(list(blocks)) == blocks


def test_a_store_behind_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "real" / "blocks.sqlite")
    with opened(SqliteSettings(tmp_path / "link.sqlite")) as store:
        assert store.writer.put_many(make_blocks(3)).added == 3


# --- kinds of files -----------------------------------------------------------------------------


def bind_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(path))


KINDS: dict[str, Callable[[Path], object]] = {
    "Is a directory": lambda path: path.mkdir(),
    "Is a named pipe": os.mkfifo,
    "Is a socket": bind_socket,
    "Is a device": lambda path: path.symlink_to("/dev/null"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("said", KINDS)
def test_what_is_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    # A socket's path is short.
    monkeypatch.chdir(tmp_path)
    KINDS[said](Path("blocks.sqlite"))
    with pytest.raises(StorageError, match=said):
        open_database(settings_for(tmp_path))


# --- copies -------------------------------------------------------------------------------------


def by_vacuum(source: sqlite3.Connection, path: Path) -> None:
    source.execute("VACUUM INTO ?", (str(path),))


def by_backup(source: sqlite3.Connection, path: Path) -> None:
    with closing(sqlite3.connect(path)) as target:
        source.backup(target)


@pytest.mark.parametrize("copy", [by_vacuum, by_backup])
def test_a_copy_that_sqlite_made_of_an_open_store(
    tmp_path: Path, copy: Callable[[sqlite3.Connection, Path], None]
) -> None:
    settings, blocks = settings_for(tmp_path, generation=50), make_blocks(200)
    copied = settings_for(tmp_path / "copy", generation=50)
    copied.path.parent.mkdir()
    with opened(settings) as store:
        store.writer.put_many(blocks)
        with closing(sqlite3.connect(settings.path)) as source:
            copy(source, copied.path)
        store.writer.put_many(make_blocks(5, seed=1))
    with opened(copied) as store:
        assert store.reader.get_many(list(blocks)) == blocks
        assert store.writer.put_many(blocks | make_blocks(7, seed=2)).added == 7
        assert store.reader.totals()[1024] == 207
        (mode,) = store.reader._connection.execute("PRAGMA journal_mode").fetchone()
        assert mode == b"wal"


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with opened(settings) as store:
        store.writer.put_many(make_blocks(500))
        store.writer.checkpoint()
    content = settings.path.read_bytes()
    settings.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match="cut short"):
        open_database(settings)
    # What docs/cli.md says to do: the rest is served, what is missing counts as not there.
    os.truncate(settings.path, len(content))
    with opened(settings) as store:
        found = store.reader.get_many(list(make_blocks(500)))
        assert len(found) > 100
        store.writer.put_many(make_blocks(500))
        assert store.reader.get_many(list(make_blocks(500))) == make_blocks(500)


# --- the WAL ------------------------------------------------------------------------------------


def test_a_wal_that_a_reader_made_grow_shrinks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 1 << 20
    monkeypatch.setattr(keeper_module, "WAL_LIMIT", limit)
    monkeypatch.setattr(keeper_module, "_WAL_WARNING", 2 * limit)
    wal = tmp_path / "blocks.sqlite-wal"
    with opened(settings_for(tmp_path)) as store, caplog.at_level(logging.WARNING):
        store.writer.put_many(make_blocks(10))
        with closing(sqlite3.connect(tmp_path / "blocks.sqlite", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM blocks").fetchone()
            for seed in range(1, 6):
                store.writer.put_many(make_blocks(1000, seed=seed))
                # It does not wait for the reader.
                store.writer.keeper.chore(is_idle=True)
            assert wal.stat().st_size > 2 * limit
        assert len(caplog.records) == 1
        assert "some program reads the store for long" in caplog.text
        assert store.writer.keeper.chore(is_idle=True) is None
        assert wal.stat().st_size <= limit
        assert store.writer.put_many(make_blocks(1000, seed=5)).added == 0


def test_a_start_that_was_killed_before_there_was_a_wal(tmp_path: Path) -> None:
    """The first page counts pages that were never written; the journal takes that back."""
    settings = settings_for(tmp_path)
    path, journal = settings.path, tmp_path / "blocks.sqlite-journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA user_version = 0")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE a (b)")
        # More than fits into the cache: so the journal is whole before that is written.
        connection.executemany("INSERT INTO a VALUES (?)", [(bytes(10_000),)] * 20)
        first_page, before = path.read_bytes()[:16384], journal.read_bytes()
    counted = (13).to_bytes(4, "big")
    path.write_bytes(first_page[:24] + first_page[92:96] + counted + first_page[32:])
    journal.write_bytes(before)
    with opened(settings) as store:
        blocks = make_blocks(5)
        store.writer.put_many(blocks)
        assert store.reader.get_many(list(blocks)) == blocks

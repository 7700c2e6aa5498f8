"""Opening a SQLite store: the file, its settings, its schema.

SQLAlchemy describes the tables and makes them; each connection belongs to the thread that opened
it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, insert, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from kapla.errors import StorageError
from kapla.storage.sqlite import schema
from kapla.storage.sqlite.damage import is_damage, replace_tables
from kapla.storage.sqlite.engine import connect, make_engine
from kapla.storage.sqlite.files import check_kind
from kapla.storage.sqlite.keeping.state import Keeping
from kapla.storage.sqlite.loading import load
from kapla.storage.sqlite.notes import Note
from kapla.storage.sqlite.recent import RecentPlaces
from kapla.storage.sqlite.state import Database, SqliteSettings

__all__ = ["Database", "SqliteSettings", "check_length", "open_database", "opening"]

_PAGE_SIZE: Final = 16384
# As they stand in the header of the file, where there is no room for the largest.
_PAGE_SIZES: Final = {1: 65536, **{1 << power: 1 << power for power in range(9, 16)}}


def open_database(settings: SqliteSettings) -> Database:
    """Make or upgrade the database, before any reader or writer opens it.

    Raises: StorageError.
    """
    path = settings.path
    check_kind(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Blocks are ciphertext, but which ones somebody keeps is nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
    with opening(path):
        check_length(path)
        keeping = Keeping(tracks_reads=settings.evicts)
        database = Database(settings, RecentPlaces(settings.generation), keeping)
        engine = make_engine(settings)
        try:
            _create_file(engine)
            _mend_version(settings)
            _make_tables(engine, database)
            _use_wal(engine)
        finally:
            engine.dispose()
        with closing(connect(settings)) as connection:
            load(connection, database)
        return database


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Say of whatever goes wrong in here which store it is about.

    Raises: StorageError.
    """
    try:
        yield
    except StorageError as error:
        raise StorageError(f"cannot use the store {path}: {error}") from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StorageError(f"cannot use the store {path}: {reason}") from error


def check_length(path: Path) -> None:
    """SQLite calls a file that was cut short malformed, as it does with anything else."""
    if any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal")):
        return  # the rest may be in there, or there was less before what SQLite will take back
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    is_counted = header[24:28] == header[92:96]  # by who wrote to it last
    if page_size not in _PAGE_SIZES or not is_counted:
        return
    found, expected = path.stat().st_size, _PAGE_SIZES[page_size] * pages
    if found < expected:
        raise StorageError(f"the file was cut short: it has {found} bytes instead of {expected}")


def _create_file(engine: Engine) -> None:
    """Give an empty file the settings that must stand before the first table is made."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        if cursor.fetchall() == [(0,)]:
            # In this order, or SQLite silently ignores them.
            cursor.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
            cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
            cursor.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _mend_version(settings: SqliteSettings) -> None:
    """If the page of the version cannot be read: it follows from the tables there are."""
    with closing(connect(settings)) as connection:
        try:
            connection.execute("SELECT version FROM kapla_schema").fetchall()
            return
        except sqlite3.Error as error:
            if not is_damage(error):
                return  # there is none, which is told of later
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = {name for (name,) in rows}
        version = 3 if b"pins" in names else 2 if b"upkeep" in names else 1

        def make() -> None:
            connection.execute("CREATE TABLE kapla_schema (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO kapla_schema VALUES (?)", (version,))

        replace_tables(connection, ["kapla_schema"], make)


def _make_tables(engine: Engine, database: Database) -> None:
    with engine.begin() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            schema.create(connection)
            connection.execute(insert(schema.upkeep).values(note=Note.ALL_PLACED, value=1))
            return
        schema.upgrade(connection)
        for name in schema.make_missing(connection):
            # Earlier versions could be killed while they made it anew.
            database.want_rebuild(f"table {name}", "it is missing")


def _use_wal(engine: Engine) -> None:
    """A copy that SQLite made is not in this mode; pages of any size will do."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        [(mode,)] = cursor.fetchall()
    finally:
        connection.close()
    if mode != "wal":
        raise StorageError(f"the file system allows no WAL (journal_mode {mode})")

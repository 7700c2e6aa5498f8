"""Opening a SQLite store: the file, its settings, its schema.

SQLAlchemy describes the tables, makes them, and opens connections; each connection belongs to the
thread that opened it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from kapla.errors import StorageError
from kapla.storage import schema
from kapla.storage.recent import RecentPlaces, unpack_prefixes

__all__ = ["Database", "SqliteSettings", "make_engine", "open_database", "opening"]

_PAGE_SIZE: Final = 16384
_BUSY_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """How a store file is opened.

    `synchronous`: with "normal" an acknowledged block survives a killed process, with "full" also a
    power cut, at the price of an fsync for each commit. `max_size`: bytes the file may grow to, or
    None.
    """

    path: Path
    synchronous: Literal["normal", "full"] = "normal"
    max_size: int | None = None
    cache_bytes: int = 16 * 1024 * 1024
    mmap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Database:
    """An open store: what its reader and its writer share."""

    settings: SqliteSettings
    recent: RecentPlaces


def open_database(settings: SqliteSettings) -> Database:
    """Make or upgrade the database, before any reader or writer opens it.

    Raises: StorageError.
    """
    path = settings.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Blocks are ciphertext, but which ones somebody keeps is nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
    with opening(path):
        engine = make_engine(settings)
        try:
            _create_file(engine)
            with engine.begin() as connection:
                if inspect(connection).get_table_names():
                    schema.upgrade(connection)
                else:
                    schema.create(connection)
            _check_settings(engine)
            return Database(settings, _load_recent(engine))
        finally:
            engine.dispose()


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


def _check_settings(engine: Engine) -> None:
    with engine.connect() as connection:
        auto_vacuum = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one()
        journal_mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if (page_size, auto_vacuum, journal_mode) != (_PAGE_SIZE, 2, "wal"):
        raise StorageError(
            f"page_size {page_size}, auto_vacuum {auto_vacuum}, journal_mode {journal_mode}"
            f" instead of {_PAGE_SIZE}, 2, wal"
        )


def _load_recent(engine: Engine) -> RecentPlaces:
    """Read the log of places that may not be in the index on disk."""
    places = RecentPlaces()
    log = schema.recent
    with engine.connect() as connection:
        for first_id, prefixes in connection.execute(select(log).order_by(log.c.first_id)):
            places.add(first_id, unpack_prefixes(prefixes))
    return places


def make_engine(settings: SqliteSettings) -> Engine:
    """Connections with the settings that are not kept in the file."""
    engine = create_engine(
        # Not from text, which would be parsed: a path may hold a question mark or a percent sign.
        URL.create("sqlite", database=str(settings.path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": _BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
        connection.execute(f"PRAGMA cache_size = {-(settings.cache_bytes // 1024)}")
        connection.execute(f"PRAGMA mmap_size = {settings.mmap_bytes}")
        connection.execute("PRAGMA temp_store = MEMORY")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver's own transaction handling is off (isolation_level None).
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine

"""Connections to a store file, with the settings that are not kept in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from kapla.storage.sqlite.read_only import uri_to_read
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["BUSY_TIMEOUT_S", "WAL_LIMIT", "connect", "make_engine"]

BUSY_TIMEOUT_S: Final = 10

WAL_LIMIT: Final = 32 * 1024 * 1024
"""What a long reader made the WAL grow beyond is given back as soon as it can be. Twice what it
usually has."""


def make_engine(settings: SqliteSettings) -> Engine:
    """Connections as SQLAlchemy has them: for the schema."""
    engine = create_engine(
        # Not from text, which would be parsed: a path may hold a question mark or a percent sign.
        URL.create("sqlite", database=str(settings.path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        _configure(connection, settings)
        # A file that is only being made, or becomes another version, is in no WAL yet. That is
        # seldom, and a power cut is not to leave half of it, whatever else is set.
        connection.execute("PRAGMA synchronous = EXTRA")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver's own transaction handling is off (isolation_level None).
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def connect(settings: SqliteSettings) -> sqlite3.Connection:
    """SQLite's own connection: for the hot statements, in this thread.

    Raises: sqlite3.Error; StorageError, where it is only to be read, and that cannot be done.
    """
    name: str | Path = settings.path
    if settings.reads_only:
        name = uri_to_read(settings.path)
    connection = sqlite3.connect(
        name,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        cached_statements=256,
        uri=settings.reads_only,
    )
    try:
        _configure(connection, settings)
        if settings.reads_only:
            connection.execute("PRAGMA query_only = ON")
        # One damaged bit makes TEXT of a BLOB: its bytes are still what they were.
        connection.text_factory = bytes
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, settings: SqliteSettings) -> None:
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
    connection.execute(f"PRAGMA cache_size = {-(settings.cache_bytes // 1024)}")
    connection.execute(f"PRAGMA mmap_size = {settings.mmap_bytes}")
    connection.execute("PRAGMA temp_store = MEMORY")
    # Some systems have SQLite write zeros over each page that becomes free. These were ciphertext.
    connection.execute("PRAGMA secure_delete = FAST").fetchall()
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")

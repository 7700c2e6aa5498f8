"""The SQLite store: synchronous statements, used by one thread each.

SQLAlchemy describes the tables, makes them and writes the SQL; the hot statements are compiled from
it once and then run on SQLite's own connection, in batches. A connection belongs to the thread that
opened it: one writes, another reads, and WAL lets them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    bindparam,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from eris.errors import StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.errors import StorageError
from kapla.storage import schema
from kapla.storage.schema import prefix_of

__all__ = ["PutResult", "SqliteReader", "SqliteSettings", "SqliteWriter", "open_database"]

_PAGE_SIZE: Final = 16384
_IN_SIZES: Final = (1, 4, 16, 64, 256)
_BUSY_TIMEOUT_MS: Final = 10_000


class PutResult(NamedTuple):
    """How many blocks were new and are kept, and which were refused for want of room."""

    added: int
    refused: frozenset[Reference]


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


def open_database(settings: SqliteSettings) -> None:
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
    engine = _engine(settings)
    try:
        _create_file(engine)
        with engine.begin() as connection:
            if inspect(connection).get_table_names():
                schema.upgrade(connection)
            else:
                schema.create(connection)
        _check_settings(engine)
    except StorageError as error:
        raise StorageError(f"cannot use the store {path}: {error}") from None
    except (DBAPIError, sqlite3.Error) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StorageError(f"cannot use the store {path}: {reason}") from error
    finally:
        engine.dispose()


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


def _engine(settings: SqliteSettings) -> Engine:
    engine = create_engine(
        f"sqlite:///{settings.path}",
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": _BUSY_TIMEOUT_MS / 1000},
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


class _Statements:
    """The hot statements, compiled once for a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        table = schema.blocks

        def compiled(statement: object) -> str:
            return str(statement.compile(dialect=dialect))  # type: ignore[attr-defined]

        def among(columns: Sequence[object], count: int) -> str:
            places: list[ColumnElement[int]] = [bindparam(f"p{index}") for index in range(count)]
            return compiled(select(*columns).where(table.c.prefix.in_(places)))  # type: ignore[call-overload]

        self.find = {n: among((table.c.reference,), n) for n in _IN_SIZES}
        self.fetch = {n: among((table.c.reference, table.c.block), n) for n in _IN_SIZES}
        self.insert = compiled(
            insert(table).values(
                prefix=bindparam("prefix"),
                reference=bindparam("reference"),
                block=bindparam("block"),
            )
        )
        self.count = compiled(
            update(schema.totals)
            .where(schema.totals.c.block_size == bindparam("size"))
            .values(blocks=schema.totals.c.blocks + bindparam("added"))
        )
        self.totals = compiled(select(schema.totals.c.block_size, schema.totals.c.blocks))


class _Session:
    """One connection, for one thread."""

    def __init__(self, settings: SqliteSettings) -> None:
        self._engine = _engine(settings)
        self._settings = settings
        self._pool_connection = self._engine.raw_connection()
        connection = self._pool_connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        self._connection = connection
        self._statements = _Statements(self._engine.dialect)

    def totals(self) -> dict[int, int]:
        """How many blocks of each size there are."""
        return dict(self._connection.execute(self._statements.totals).fetchall())

    def database_bytes(self) -> int:
        """The size of the file, without the pages that are free to be used again."""
        page, count, free = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(page * (count - free))

    def close(self) -> None:
        self._pool_connection.close()
        self._engine.dispose()

    def _among(
        self, statements: dict[int, str], prefixes: Sequence[int]
    ) -> list[tuple[bytes, ...]]:
        """Run a statement over any number of prefixes, in a few fixed sizes."""
        rows: list[tuple[bytes, ...]] = []
        execute = self._connection.execute
        largest = _IN_SIZES[-1]
        for start in range(0, len(prefixes), largest):
            part = prefixes[start : start + largest]
            size = next(size for size in _IN_SIZES if size >= len(part))
            # Filled up with repetitions, which find nothing new: IN is a set.
            part = [*part, *([part[-1]] * (size - len(part)))]
            rows += execute(statements[size], part).fetchall()
        return rows


class SqliteReader(_Session):
    """Reads blocks."""

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there, by reference.

        Raises: StoreUnavailable.
        """
        prefixes = [prefix_of(reference) for reference in references]
        try:
            return dict(self._among(self._statements.fetch, prefixes))  # type: ignore[arg-type]
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database cannot be read: {error}") from error

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there.

        Raises: StoreUnavailable.
        """
        prefixes = [prefix_of(reference) for reference in references]
        try:
            return {Reference(row[0]) for row in self._among(self._statements.find, prefixes)}
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database cannot be read: {error}") from error


class SqliteWriter(_Session):
    """Writes blocks."""

    def __init__(self, settings: SqliteSettings) -> None:
        super().__init__(settings)
        with self._engine.begin() as connection:
            for size in BlockSize:
                known = select(schema.totals.c.blocks).where(schema.totals.c.block_size == size)
                if connection.execute(known).first() is None:
                    connection.execute(insert(schema.totals).values(block_size=size, blocks=0))

    def put_many(self, blocks: dict[Reference, bytes]) -> PutResult:
        """Keep blocks in one transaction.

        After an error none of the new ones is kept.
        Raises: StoreUnavailable, on a full disk or a failing one.
        """
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = self._insert(blocks)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StoreUnavailable("the disk is full") from error
            raise StoreUnavailable(f"the database cannot be written: {error}") from error
        return result

    def _insert(self, blocks: dict[Reference, bytes]) -> PutResult:
        prefixes = [prefix_of(reference) for reference in blocks]
        known = {row[0] for row in self._among(self._statements.find, prefixes)}
        rows = [
            (prefix, reference, block)
            for prefix, (reference, block) in zip(prefixes, blocks.items(), strict=True)
            if reference not in known
        ]
        if not rows:
            return PutResult(0, frozenset())
        refused = self._over_quota([(row[1], len(row[2])) for row in rows])
        if refused:
            rows = [row for row in rows if row[1] not in refused]
        self._connection.executemany(self._statements.insert, rows)
        for size in BlockSize:
            added = sum(len(row[2]) == size for row in rows)
            if added:
                self._connection.execute(self._statements.count, (added, int(size)))
        return PutResult(len(rows), refused)

    def _over_quota(self, coming: list[tuple[Reference, int]]) -> frozenset[Reference]:
        """Which of the new blocks would take the file beyond its largest size."""
        if self._settings.max_size is None:
            return frozenset()
        room = self._settings.max_size - self.database_bytes()
        refused = set()
        for reference, size in coming:
            room -= size
            if room < 0:
                refused.add(reference)
        return frozenset(refused)

    def checkpoint(self) -> None:
        """Move everything from the WAL into the database file and empty it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

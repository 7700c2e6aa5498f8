"""The SQLite store: synchronous statements, in batches, each session used by one thread.

The hot statements are written by SQLAlchemy, compiled once, and run on SQLite's own connection. One
session writes, others read, and WAL lets them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from eris.crypto import reference_of
from eris.errors import StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage import schema
from kapla.storage.database import Database, make_engine
from kapla.storage.recent import pack_prefixes
from kapla.storage.schema import prefix_of

__all__ = ["DamagedStore", "PutResult", "SqliteReader", "SqliteWriter"]

_log = logging.getLogger(__name__)

# Statements for so many values at once; larger batches take several.
_IN_SIZES: Final = (1, 4, 16, 64, 256)


class DamagedStore(StoreUnavailable):
    """A part of the file cannot be read; others may."""


class PutResult(NamedTuple):
    """How many blocks were new and are kept, and which were refused for want of room."""

    added: int
    refused: frozenset[Reference]


class _Statements:
    """The hot statements, compiled once for a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        blocks, places, recent, totals = (
            schema.blocks,
            schema.places,
            schema.recent,
            schema.totals,
        )
        at_place = blocks.join(places, blocks.c.id == places.c.block_id)

        def compiled(statement: Any) -> str:
            return str(statement.compile(dialect=dialect))

        def among(statement: Select[Any], column: ColumnElement[int]) -> dict[int, str]:
            found = {}
            for count in _IN_SIZES:
                values: list[ColumnElement[int]] = [bindparam(f"p{i}") for i in range(count)]
                found[count] = compiled(statement.where(column.in_(values)))
            return found

        names = select(blocks.c.reference)
        whole = select(blocks.c.reference, blocks.c.block)
        self.name_by_id = among(names, blocks.c.id)
        self.name_by_prefix = among(names.select_from(at_place), places.c.prefix)
        self.block_by_id = among(whole, blocks.c.id)
        self.block_by_prefix = among(whole.select_from(at_place), places.c.prefix)
        kept = select(blocks.c.reference, blocks.c.block, blocks.c.id)
        self.kept_by_id = among(kept, blocks.c.id)
        self.kept_by_prefix = among(kept.select_from(at_place), places.c.prefix)
        self.insert_block = compiled(insert(blocks))
        self.replace_block = compiled(
            update(blocks).where(blocks.c.id == bindparam("at")).values(block=bindparam("whole"))
        )
        self.log = compiled(insert(recent))
        self.insert_place = compiled(insert_or_ignore(places).on_conflict_do_nothing())
        self.forget_log = compiled(delete(recent).where(recent.c.first_id <= bindparam("last")))
        self.count = compiled(
            update(totals)
            .where(totals.c.block_size == bindparam("size"))
            .values(blocks=totals.c.blocks + bindparam("added"))
        )
        self.totals = compiled(select(totals.c.block_size, totals.c.blocks))
        self.last_id = compiled(select(func.max(blocks.c.id)))


class _Session:
    """One connection, for one thread."""

    def __init__(self, database: Database) -> None:
        self._engine = make_engine(database.settings)
        self._settings = database.settings
        self._recent = database.recent
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
        """Close the connection."""
        self._pool_connection.close()
        self._engine.dispose()

    def _look_up(
        self, references: Sequence[Reference], by_id: dict[int, str], by_prefix: dict[int, str]
    ) -> list[tuple[Any, ...]]:
        """Rows of blocks whose prefix is that of one of `references`: nearly always just those."""
        ids, elsewhere = self._recent.find(map(prefix_of, references))
        rows = self._among(by_id, ids)
        if ids:
            # What is recent may share its prefix with what is wanted, and not be it.
            found = {row[0] for row in rows}
            elsewhere = [prefix_of(name) for name in references if name not in found]
        if elsewhere:
            rows += self._among(by_prefix, elsewhere)
        return rows

    def _among(self, statements: dict[int, str], values: Sequence[int]) -> list[tuple[Any, ...]]:
        """Run a statement over any number of values, in a few fixed sizes."""
        rows: list[tuple[Any, ...]] = []
        execute = self._connection.execute
        largest = _IN_SIZES[-1]
        for start in range(0, len(values), largest):
            part = values[start : start + largest]
            size = next(size for size in _IN_SIZES if size >= len(part))
            # Filled up with repetitions, which find nothing new: IN is a set.
            part = [*part, *([part[-1]] * (size - len(part)))]
            rows += execute(statements[size], part).fetchall()
        return rows


def _is_damage(error: sqlite3.Error) -> bool:
    # The low byte is the kind; what is above tells more of it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def _unreadable(error: sqlite3.Error) -> StoreUnavailable:
    kind = DamagedStore if _is_damage(error) else StoreUnavailable
    return kind(f"the database cannot be read: {error}")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class SqliteReader(_Session):
    """Reads blocks."""

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there, by reference.

        Raises: StoreUnavailable.
        """
        statements = self._statements
        try:
            return dict(
                self._look_up(references, statements.block_by_id, statements.block_by_prefix)
            )
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there.

        Raises: StoreUnavailable.
        """
        statements = self._statements
        try:
            rows = self._look_up(references, statements.name_by_id, statements.name_by_prefix)
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return {Reference(row[0]) for row in rows}.intersection(references)


class SqliteWriter(_Session):
    """Writes blocks."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        totals = schema.totals
        with self._engine.begin() as connection:
            known = set(connection.execute(select(totals.c.block_size)).scalars())
            for size in BlockSize:
                if size not in known:
                    connection.execute(insert(totals).values(block_size=int(size), blocks=0))
        path = self._settings.path
        self._wal = path.with_name(path.name + "-wal")
        self._identity = _identity(path)
        # Known after the first commit.
        self._wal_identity: tuple[int, int] | None = None
        self._is_sound = True
        (last_id,) = self._connection.execute(self._statements.last_id).fetchone()
        self._next_id = (last_id or 0) + 1

    def put_many(self, blocks: dict[Reference, bytes]) -> PutResult:
        """Keep blocks in one transaction.

        After an error none of the new ones is kept.
        Raises: StoreUnavailable, on a full disk or a failing one.
        """
        connection = self._connection
        if not self._is_sound:
            raise StoreUnavailable("the index of new blocks is incomplete: restart the daemon")
        wal = _identity(self._wal)
        is_wal_ours = self._wal_identity in (None, wal)
        if not is_wal_ours or _identity(self._settings.path) != self._identity:
            # What is written now would be gone with the last process that has the file open.
            raise StoreUnavailable("the store's file or its WAL was removed or replaced")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                prefixes, refused, moved = self._insert(blocks)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StoreUnavailable("the disk is full") from error
            if _is_damage(error):
                raise _unreadable(error) from error
            raise StoreUnavailable(f"the database cannot be written: {error}") from error
        if prefixes:
            first_id = self._next_id
            # First of all: whatever fails below, a committed id is not used again.
            self._next_id += len(prefixes)
            self._wal_identity = self._wal_identity or _identity(self._wal)
            # Unless this ends well, what is logged must not be taken for moved: see `forget_log`.
            self._is_sound = False
            self._recent.add(first_id, prefixes)
            self._recent.confirm(moved)
            self._is_sound = True
        return PutResult(len(prefixes), refused)

    def _insert(
        self, blocks: dict[Reference, bytes]
    ) -> tuple[list[int], frozenset[Reference], list[tuple[int, int]]]:
        """Returns the prefixes of the new blocks, what was refused, and the places that move."""
        statements = self._statements
        rows = self._look_up(list(blocks), statements.kept_by_id, statements.kept_by_prefix)
        known = {row[0] for row in rows}
        for reference, block, block_id in rows:
            if blocks.get(reference, block) != block:
                self._heal(block_id, reference, blocks[reference])
        new = [item for item in blocks.items() if item[0] not in known]
        refused = self._over_quota(new)
        if refused:
            new = [item for item in new if item[0] not in refused]
        if not new:
            return [], refused, []
        connection, first_id = self._connection, self._next_id
        prefixes = [prefix_of(reference) for reference, _ in new]
        connection.executemany(
            statements.insert_block,
            [(block_id, *item) for block_id, item in enumerate(new, first_id)],
        )
        connection.execute(statements.log, (first_id, pack_prefixes(prefixes)))
        for size in BlockSize:
            added = sum(len(block) == size for _, block in new)
            if added:
                connection.execute(statements.count, (added, int(size)))
        moved = self._recent.next_to_move(len(new))
        connection.executemany(statements.insert_place, moved)
        done = self._recent.done_after(moved)
        if done is not None:
            connection.execute(statements.forget_log, (done,))
        return prefixes, refused, moved

    def _heal(self, block_id: int, reference: Reference, block: bytes) -> None:
        """Put a good block in the place of one that was damaged on the disk."""
        if reference_of(block) == reference:
            self._connection.execute(self._statements.replace_block, (block, block_id))
            _log.warning("A stored block was damaged, and is replaced by a good one that came")

    def _over_quota(self, coming: list[tuple[Reference, bytes]]) -> frozenset[Reference]:
        """Which of the new blocks would take the file beyond its largest size."""
        if self._settings.max_size is None:
            return frozenset()
        room = self._settings.max_size - self.database_bytes()
        refused = set()
        for reference, block in coming:
            room -= len(block)
            if room < 0:
                refused.add(reference)
        return frozenset(refused)

    def checkpoint(self) -> None:
        """Move everything from the WAL into the database file and empty it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

"""What is read of a store when it is opened: totals, the log, and how far the upkeep had come.

All of it follows from the blocks. What is damaged is thrown away here and made anew; only a file
that is no store, or of which not even the list of tables can be read, is refused.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from typing import Final

from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.storage.sqlite.damage import is_damage, renew_table, replace_tables
from kapla.storage.sqlite.moving import work_down
from kapla.storage.sqlite.notes import Note, moved_of, read_notes, write_notes
from kapla.storage.sqlite.rebuild import renew_totals
from kapla.storage.sqlite.recent import unpack_prefixes
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["LOGGED_AT_ONCE", "checked_totals", "load", "read_log"]

_log = logging.getLogger(__name__)

LOGGED_AT_ONCE: Final = 3
"""Generations that the log may have had: so many blocks are looked at before a store with a damaged
log is used."""

_SMALL: Final = 1_000_000
"""Blocks: an index of 20 MiB."""


def load(connection: sqlite3.Connection, database: Database) -> None:
    """Fill in what the sessions share. Raises: sqlite3.Error."""
    notes = _load_notes(connection, database)
    _load_totals(connection, database, notes)
    _check_index(connection, database)
    try:
        work_down(connection, database.recent.generation)
        # Working down may have ended a move.
        notes = read_notes(connection)
        database.recent.load(read_log(connection), moved_of(notes))
    except (sqlite3.Error, StorageError) as error:
        if isinstance(error, sqlite3.Error) and not is_damage(error):
            raise
        _lose_log(connection, database, error)
    if database.settings.rebuild_index:
        database.is_rebuild_wanted = True


def checked_totals(connection: sqlite3.Connection) -> dict[int, int] | None:
    """The totals, or None if they cannot be right. Raises: sqlite3.Error."""
    rows = connection.execute(statements().totals).fetchall()
    if sorted(row[0] for row in rows if isinstance(row[0], int)) != sorted(map(int, BlockSize)):
        return None
    if not all(isinstance(count, int) and count >= 0 for _, count in rows):
        return None
    return dict(rows)


def _load_notes(connection: sqlite3.Connection, database: Database) -> dict[Note, int]:
    try:
        notes = read_notes(connection)
    except (sqlite3.Error, ValueError) as error:
        if isinstance(error, sqlite3.Error) and not is_damage(error):
            raise
        _log.warning("The store's notes are damaged, and made anew: %s", error)
        renew_table(connection, "upkeep")
        notes = {}
    if Note.REBUILD_BELOW in notes:
        database.rebuilds = 1
    elif _is_aside(connection):
        database.rebuilds = 1
        database.is_rebuild_wanted = True
    database.is_placed = Note.ALL_PLACED in notes
    if Note.REBUILD_WANTED in notes:
        database.is_rebuild_wanted = True
    return notes


def _load_totals(
    connection: sqlite3.Connection, database: Database, notes: dict[Note, int]
) -> None:
    try:
        totals = checked_totals(connection)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        totals = None
    if totals is None:
        renew_totals(connection, None)
        database.want_rebuild("table of totals", "it cannot be used")
    elif Note.TOTALS_UNKNOWN in notes:
        if Note.REBUILD_BELOW not in notes:
            database.is_rebuild_wanted = True
    else:
        database.totals = totals


def _check_index(connection: sqlite3.Connection, database: Database) -> None:
    """Look at the whole index, if it is small: then damage is known before it is met."""
    blocks = sum((database.totals or {}).values())
    if blocks > _SMALL:
        return
    try:
        connection.execute(statements().count_places).fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        database.want_rebuild("index", error)


def read_log(connection: sqlite3.Connection) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The log of the newest blocks, as `RecentPlaces` takes it in. Raises: sqlite3.Error."""
    for first_id, prefixes in connection.execute(statements().read_log):
        yield first_id, unpack_prefixes(prefixes)


def _lose_log(connection: sqlite3.Connection, database: Database, error: Exception) -> None:
    """The rebuilding begins with the newest blocks: those that were in the log."""
    database.want_rebuild("log of new blocks", error)
    database.recent.clear()

    def make() -> None:
        connection.execute(statements().create["recent"])
        # Whoever comes after a crash finds an empty log, with nothing wrong about it.
        write_notes(connection, {Note.REBUILD_WANTED: 1})

    replace_tables(connection, ["recent"], make)


def _is_aside(connection: sqlite3.Connection) -> bool:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return (b"damaged_places",) in rows

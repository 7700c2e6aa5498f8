"""What cannot be read of a file: how it is known, and how a table is begun anew in spite of it.

A page that is damaged can neither be read nor given back. So a table that has one cannot even be
dropped; it is taken out of the list of tables then, and its pages stay unused until somebody runs
VACUUM. Only tables whose rows follow from `blocks` are treated so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from eris.errors import StoreUnavailable
from kapla.storage.sqlite.statements import statements

__all__ = [
    "DamagedStore",
    "drop_table",
    "is_bad_disk",
    "is_damage",
    "is_full",
    "renew_table",
    "replace_tables",
    "transaction",
    "unreadable",
]

# TOOBIG: a length that was damaged.
_DAMAGE: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}
)


_UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
)


class DamagedStore(StoreUnavailable):
    """A part of the file cannot be read; others may."""


def _kind(error: sqlite3.Error) -> int:
    # The low byte is the kind; what is above tells more of it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_bad_disk(error: sqlite3.Error) -> bool:
    """Whether the system could not read or write: this page, or the whole disk."""
    return _kind(error) == sqlite3.SQLITE_IOERR


def _is_unreadable(error: sqlite3.Error) -> bool:
    """Whether a page cannot be read, ever: what cannot be written now may be the next time."""
    return getattr(error, "sqlite_errorcode", 0) in _UNREADABLE


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it is the file's content that is wrong, in this place."""
    return _kind(error) in _DAMAGE


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk has no room."""
    return _kind(error) == sqlite3.SQLITE_FULL


def unreadable(error: sqlite3.Error) -> StoreUnavailable:
    """The error of the port for one of the database."""
    kind = DamagedStore if is_damage(error) else StoreUnavailable
    return kind(f"the database cannot be read: {error}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is done in here, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def drop_table(connection: sqlite3.Connection, name: str) -> None:
    """Drop a table, or forget it where damage forbids that; nothing if there is none."""
    replace_tables(connection, [name], lambda: None)


def renew_table(connection: sqlite3.Connection, name: str) -> None:
    """Put an empty table in the place of one that is damaged."""
    replace_tables(connection, [name], lambda: connection.execute(statements().create[name]))


def replace_tables(
    connection: sqlite3.Connection, names: Sequence[str], make: Callable[[], object]
) -> None:
    """Drop tables as `drop_table` does, and make what comes in their places: all, or nothing."""
    undroppable: set[str] = set()
    while not _is_replaced(connection, names, undroppable, make):
        pass  # each time there is one more of these


def _is_replaced(
    connection: sqlite3.Connection,
    names: Sequence[str],
    undroppable: set[str],
    make: Callable[[], object],
) -> bool:
    dropping = None
    try:
        with transaction(connection):
            for name in names:
                dropping = name
                if name in undroppable:
                    _forget_table(connection, name)
                else:
                    connection.execute(f"DROP TABLE IF EXISTS {name}")
            dropping = None
            make()
    except sqlite3.Error as error:
        if dropping is None or dropping in undroppable:
            raise
        if not (is_damage(error) or _is_unreadable(error)):
            raise
        undroppable.add(dropping)
        return False
    return True


def _forget_table(connection: sqlite3.Connection, name: str) -> None:
    """Take a table out of the schema and leave its pages where they are."""
    connection.execute("PRAGMA writable_schema = ON")
    try:
        connection.execute("DELETE FROM sqlite_master WHERE tbl_name = ?", (name,))
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        # So that every connection reads the schema again.
        connection.execute(f"PRAGMA schema_version = {version + 1}")
    finally:
        connection.execute("PRAGMA writable_schema = RESET")

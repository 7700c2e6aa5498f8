"""A map as a database of SQLite: a table `map` of `hash_part` and `urn`, both text.

For programs that would rather ask SQL. Read only; it is opened for each look-up, so that whoever
writes it is not held up. What is called a table may be a query without an end, which would fill the
disk with what it sorts, too: so nothing is read but that table itself, in the order in which it
lies, and that has an end.

Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from eris.threads import in_thread
from guix_glue.errors import DatabaseError
from guix_glue.formats.item_map import (
    Contents,
    Entry,
    MapFacts,
    given_entry,
    hash_part_at,
    urn_of,
)

__all__ = ["DatabaseMap", "write_database"]

_BUSY_S: Final = 0.5
_FIND_S: Final = 1.0
_LOAD_S: Final = 600.0
# Steps of SQLite's machine between two looks at the clock: a millisecond or less.
_STEPS: Final = 10_000
# Bytes of a row: a URN has 115.
_LONGEST: Final = 64 * 1024
_CREATE: Final = "CREATE TABLE map (hash_part TEXT PRIMARY KEY, urn TEXT NOT NULL) WITHOUT ROWID"
_INSERT: Final = "INSERT INTO map VALUES (?, ?)"
_FIND: Final = "SELECT urn FROM map WHERE hash_part = ?"
_ALL: Final = "SELECT hash_part, urn FROM map"


class DatabaseMap:
    """The database in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        return await in_thread(self._find, hash_part)

    async def load(self) -> Contents:
        """See `Map`."""
        return await in_thread(lambda: Contents.of(MapFacts(), self._entries()))

    async def close(self) -> None:
        """Nothing is held."""

    def _find(self, hash_part: str) -> str | None:
        try:
            with closing(self._opened(_FIND_S)) as database:
                row = database.execute(_FIND, (hash_part,)).fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return None if row is None else urn_of(given_entry(hash_part, str(row[0])).value)

    def _entries(self) -> Iterator[Entry]:
        try:
            with closing(self._opened(_LOAD_S)) as database:
                # SQLite has no strict types: a row may hold anything.
                for hash_part, urn in database.execute(_ALL):
                    yield given_entry(str(hash_part), str(urn))
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _opened(self, for_s: float) -> sqlite3.Connection:
        """A connection on which whatever takes longer than this is given up."""
        uri = f"file:{quote(str(self._path))}?mode=ro"
        database = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
        until = time.monotonic() + for_s
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        database.set_authorizer(_allowed)
        database.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        return database

    def _unreadable(self, error: sqlite3.Error) -> DatabaseError:
        return DatabaseError(f"cannot read {self._path} as a map: {error}")


def _allowed(action: int, name: str | None, *_: str | None) -> int:
    """Let nothing be done but reading the table: no view, no function, no recursion."""
    reads = action == sqlite3.SQLITE_READ and name == "map"
    return sqlite3.SQLITE_OK if reads or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY


def write_database(path: Path, contents: Contents) -> None:
    """Make a database where nothing is. Raises: OSError, DatabaseError."""
    # Made here, so that it is for its owner only from the first moment on.
    path.touch(0o600, exist_ok=False)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN")
            database.execute(_CREATE)
            rows = ((hash_part_at(one.key), urn_of(one.value)) for one in contents)
            database.executemany(_INSERT, rows)
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise DatabaseError(f"cannot write {path.name}: {error}") from error

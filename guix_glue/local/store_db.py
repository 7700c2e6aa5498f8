"""What the store's SQLite database says of items, read without ever writing beside it.

The daemon keeps it in WAL mode: what was written last may still be in `db.sqlite-wal`, whose index
is `db.sqlite-shm`. Both are there while the daemon has the database open. Then it is opened with
`mode=ro`, which reads them. When they are not there, `mode=ro` fails for those who may not make
them, and makes and leaves them behind for root; but then the one file holds everything, and it is
opened with `immutable=1`, which looks at nothing else. As that takes no lock either, a look-up that
came upon a change is made again.

A connection lives for one look-up: it must not keep the daemon from tidying up when it closes the
database. Plain synchronous code, for a worker thread.

Source: guix.md, section 8; https://www.sqlite.org/wal.html ("Read-Only Databases").
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final, TypeVar
from urllib.parse import quote

from guix_glue.errors import DatabaseError, ProtocolError
from guix_glue.formats.store_path import is_hash_part, is_store_path
from guix_glue.local.item_facts import checked_item, parse_database_hash
from guix_glue.model import StoreItem

__all__ = ["StoreDatabase"]

T = TypeVar("T")

_SCHEMA: Final = b"7"
# A writer changes several rows per item; four changes in a row during a look-up of a millisecond
# mean that something else is wrong.
_TRIES: Final = 4
_BUSY_TIMEOUT_S: Final = 5.0
# The largest profiles have some thousands.
_MAX_REFERENCES: Final = 100_000

_FIND_ITEM: Final = """
    SELECT id, path, hash, narSize, deriver FROM ValidPaths WHERE path >= ? ORDER BY path LIMIT 1
"""
_FIND_REFERENCES: Final = """
    SELECT path FROM Refs JOIN ValidPaths ON ValidPaths.id = Refs.reference
    WHERE Refs.referrer = ? ORDER BY path LIMIT ?
"""
_IS_VALID: Final = "SELECT EXISTS (SELECT 1 FROM ValidPaths WHERE path = ?)"


class StoreDatabase:
    """The database in `database_dir`, usually `/var/guix/db`, of the store at `store_dir`.

    One that is locked is waited for, for `busy_timeout_s` at most.
    """

    def __init__(
        self, database_dir: str, store_dir: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S
    ) -> None:
        self._busy_timeout_s = busy_timeout_s
        self._schema_file = os.path.join(database_dir, "schema")
        self._file = os.path.join(database_dir, "db.sqlite")
        self._store_dir = store_dir

    def find(self, hash_part: str) -> StoreItem | None:
        """The valid item with this hash part, if there is one.

        Raises: DatabaseError; ProtocolError, if what is said of the item makes no sense.
        """
        if not is_hash_part(hash_part):
            return None
        return self._look_up(lambda database: self._find(database, hash_part))

    def valid(self, path: str) -> bool:
        """Whether the item at the full path is valid. Raises: DatabaseError."""
        if not is_store_path(path, self._store_dir):
            return False
        return self._look_up(lambda database: _is_valid(database, path))

    def stamp(self) -> object:
        """Is another when something was written, as far as the files tell."""
        return self._stamp(), _stamp_of(self._file + "-wal")

    def query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on one state of the database. Raises: DatabaseError; what it raises."""
        return self._look_up(query)

    def _find(self, database: sqlite3.Connection, hash_part: str) -> StoreItem | None:
        prefix = f"{self._store_dir}/{hash_part}"
        row = database.execute(_FIND_ITEM, (prefix,)).fetchone()
        if row is None:
            return None
        number, path, nar_hash, nar_size, deriver = row
        if not isinstance(path, str) or not path.startswith(prefix):
            return None
        found = database.execute(_FIND_REFERENCES, (number, _MAX_REFERENCES + 1))
        references = [reference for (reference,) in found]
        if len(references) > _MAX_REFERENCES:
            raise ProtocolError(f"{path} has more than {_MAX_REFERENCES} references")
        return checked_item(
            self._store_dir,
            path,
            nar_hash=parse_database_hash(nar_hash),
            nar_size=nar_size,
            references=references,
            deriver=deriver,
        )

    def _look_up(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on one state of the database."""
        self._check_schema()
        for _ in range(_TRIES):
            with suppress(sqlite3.OperationalError):
                # It fails if the daemon has just closed it, or if the index is not for us to read.
                if self._is_in_use():
                    return self._run("mode=ro", query)
            before = self._stamp()
            try:
                result = self._run("mode=ro&immutable=1", query)
            except (sqlite3.Error, ProtocolError) as error:
                if self._stamp() != before:
                    continue
                if isinstance(error, ProtocolError):
                    raise
                raise DatabaseError(f"cannot read {self._file}: {error}") from error
            if self._stamp() == before:
                return result
        raise DatabaseError(f"cannot read {self._file}: it changes all the time")

    def _run(self, how: str, query: Callable[[sqlite3.Connection], T]) -> T:
        uri = f"file:{quote(self._file)}?{how}"
        opened = sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_s, isolation_level=None)
        with closing(opened) as database:
            # All statements of the query see the same state.
            database.execute("BEGIN")
            return query(database)

    def _is_in_use(self) -> bool:
        return all(os.path.exists(self._file + ending) for ending in ("-wal", "-shm"))

    def _stamp(self) -> tuple[int, int, int] | None:
        """Is another when the file itself was written or replaced."""
        return _stamp_of(self._file)

    def _check_schema(self) -> None:
        try:
            with open(self._schema_file, "rb") as file:
                number = file.read(32).strip()
        except OSError as error:
            raise DatabaseError(f"cannot read {self._schema_file}: {error.strerror}") from error
        if number != _SCHEMA:
            raise DatabaseError(
                f"{self._schema_file} says that the database is of schema {number!r};"
                f" {_SCHEMA!r} is known"
            )


def _stamp_of(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_valid(database: sqlite3.Connection, path: str) -> bool:
    return bool(database.execute(_IS_VALID, (path,)).fetchone()[0])

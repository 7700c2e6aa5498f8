"""A SQLite file that a daemon writes, read without ever writing beside it.

As a rule it is in WAL mode: what was written last may still be in `db.sqlite-wal`, whose index is
`db.sqlite-shm`. Both are there while the daemon has the database open. Then it is opened with
`mode=ro`, which reads them. When they are not there, `mode=ro` fails for those who may not make
them, and makes and leaves them behind for root; but then the one file holds everything, and it is
opened with `immutable=1`, which looks at nothing else. As that takes no lock either, a look-up that
came upon a change is made again.

On file systems that cannot do WAL, a daemon keeps what it overwrites in `db.sqlite-journal`, which
has no bytes but during a change. As long as it has some, only `mode=ro` is right: it waits until
the change is done, and refuses what a daemon that was killed has left half-done.

A connection lives for one look-up: it must not keep the daemon from tidying up when it closes the
database. Plain synchronous code, for a worker thread.

Source: https://www.sqlite.org/wal.html ("Read-Only Databases"); https://www.sqlite.org/lockingv3.html.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeVar
from urllib.parse import quote

from guix_glue.errors import DatabaseError, ProtocolError

__all__ = ["BUSY_TIMEOUT_S", "ForeignDatabase"]

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 5.0
# A writer changes several rows per item; four changes in a row during a look-up of a millisecond
# mean that something else is wrong.
_TRIES: Final = 4


class ForeignDatabase:
    """The database in one file. One that is locked is waited for, `busy_timeout_s` at most."""

    def __init__(self, file: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._file = file
        self._busy_timeout_s = busy_timeout_s

    def look_up(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on one state of the database.

        Raises: DatabaseError; what the query raises.
        """
        for _ in range(_TRIES):
            is_half_changed = self._is_half_changed()
            try:
                if is_half_changed or self._has_log():
                    return self._run("mode=ro", query)
            except sqlite3.Error as error:
                if not _may_be_closed(error):
                    raise self._unreadable(error) from error
            if is_half_changed:
                continue
            before = self._stamp()
            try:
                result = self._run("mode=ro&immutable=1", query)
            except (sqlite3.Error, ProtocolError) as error:
                if self._stamp() != before:
                    continue
                if isinstance(error, ProtocolError):
                    raise
                raise self._unreadable(error) from error
            if self._stamp() == before and not self._is_half_changed():
                return result
        raise DatabaseError(
            f"cannot read {self._file}: it changes all the time, or was left in the middle of a"
            " change"
        )

    def stamp(self) -> object:
        """Is another when something was written, as far as the files tell."""
        return self._stamp(), self._stamp("-wal")

    def _unreadable(self, error: Exception) -> DatabaseError:
        return DatabaseError(f"cannot read {self._file}: {error}")

    def _run(self, how: str, query: Callable[[sqlite3.Connection], T]) -> T:
        uri = f"file:{quote(self._file)}?{how}"
        opened = sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_s, isolation_level=None)
        with closing(opened) as database:
            # All statements of the query see the same state.
            database.execute("BEGIN")
            return query(database)

    def _has_log(self) -> bool:
        return all(os.path.exists(self._file + ending) for ending in ("-wal", "-shm"))

    def _is_half_changed(self) -> bool:
        try:
            return os.stat(self._file + "-journal").st_size > 0
        except OSError:
            return False

    def _stamp(self, ending: str = "") -> tuple[int, int, int] | None:
        """Is another when the file itself was written or replaced."""
        try:
            found = os.stat(self._file + ending)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _may_be_closed(error: sqlite3.Error) -> bool:
    """Whether the daemon may just have closed it, or the index is not for us to read.

    One that is locked is open: what has its changes is not to be passed over.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return isinstance(error, sqlite3.OperationalError) and code & 0xFF != sqlite3.SQLITE_BUSY

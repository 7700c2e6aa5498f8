"""A store as somebody sees it who only reads, without the lock, beside a daemon that may write.

What a daemon has in memory is read from the file: the log of the newest blocks, so that they are
found, and the pins. It is read again when something is not there and others have written since: a
block may be new, or have moved. Nothing is mended here, and no older version upgraded: that is for
whoever writes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.errors import StorageError
from kapla.storage.sqlite.damage import is_damage, unreadable
from kapla.storage.sqlite.database import opening
from kapla.storage.sqlite.files import StoreFiles
from kapla.storage.sqlite.keeping.pins import Pins
from kapla.storage.sqlite.keeping.reserve import Reserve
from kapla.storage.sqlite.keeping.room import Room
from kapla.storage.sqlite.keeping.state import Keeping
from kapla.storage.sqlite.lending import LentReader
from kapla.storage.sqlite.loading import checked_totals, read_log
from kapla.storage.sqlite.moving import MOST_LOGGED
from kapla.storage.sqlite.notes import Note, moved_of, read_notes
from kapla.storage.sqlite.recent import RecentPlaces
from kapla.storage.sqlite.schema import SCHEMA_VERSION
from kapla.storage.sqlite.state import Database, SqliteSettings
from kapla.storage.sqlite.statements import statements

__all__ = ["View"]

_T = TypeVar("_T")

# Each time others have written meanwhile: who writes all the time does not keep us for ever.
_TRIES: Final = 3
# After the pins were counted they are not for so many times as long as that took.
_REST: Final = 20


class View:
    """One read-only session, for one thread."""

    def __init__(self, settings: SqliteSettings) -> None:
        """Raises: StorageError, if it is no store, or none that can be read so."""
        assert settings.reads_only
        self._settings = settings
        self._database = Database(
            settings, RecentPlaces(settings.generation), Keeping(tracks_reads=False)
        )
        self._pins: Pins | None = None
        self._count_after = 0.0
        # What is damaged is told by whoever mends it.
        self._database.is_rebuild_wanted = True
        with opening(settings.path):
            self._reader = LentReader(self._database)
            try:
                _check_version(self._reader.connection)
                self._seen = self._changes()
                self._load()
            except BaseException:
                self._reader.close()
                raise

    @property
    def pins(self) -> Pins:
        """The pins as they are now, or were a moment ago: to count many takes seconds.

        Raises: StoreUnavailable.
        """
        started = time.monotonic()
        if self._pins is None or started >= self._count_after:
            self._pins = self._count_pins()
            now = time.monotonic()
            self._count_after = now + _REST * (now - started)
        return self._pins

    def _count_pins(self) -> Pins:
        connection, database = self._reader.connection, self._database
        try:
            files = StoreFiles(self._settings.path)
            reserve = Reserve(self._settings.path, self._settings.max_size, self._settings.min_free)
            pins = Pins(connection, database, Room(connection, database, files, reserve))
            pins.look()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error
        return pins

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there, by reference. Raises: StoreUnavailable."""
        found = self._reader.get_many(references)
        for _ in range(_TRIES):
            missing = [name for name in references if name not in found]
            if not missing or not self._refresh():
                break
            found |= self._reader.get_many(missing)
        return found

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there. Raises: StoreUnavailable."""
        found = self._reader.find_many(references)
        for _ in range(_TRIES):
            missing = [name for name in references if name not in found]
            if not missing or not self._refresh():
                break
            found |= self._reader.find_many(missing)
        return found

    def totals(self) -> tuple[dict[int, int], int]:
        """How many blocks of each size there are, and the bytes of the database.

        Raises: StoreUnavailable.
        """
        try:
            totals = checked_totals(self._reader.connection)
            is_unknown = Note.TOTALS_UNKNOWN in read_notes(self._reader.connection)
            size = self._reader.database_bytes()
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnavailable(f"the database cannot be read: {error}") from error
        if totals is None or is_unknown:
            raise StoreUnavailable("the totals were damaged, and are not counted anew yet")
        return totals, size

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def _refresh(self) -> bool:
        """Look anew, if others have written since; returns whether they had."""
        try:
            changes = self._changes()
            if changes == self._seen:
                return False
            # Before it is read: what comes after that is looked for the next time.
            self._seen = changes
            self._load()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error
        return True

    def _changes(self) -> int:
        """A number that is another one when others have written. Raises: sqlite3.Error."""
        (version,) = self._reader.connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _load(self) -> None:
        """Take in the log, of one moment. Raises: sqlite3.Error, StorageError."""
        _at_once(self._reader.connection, self._take_in)

    def _take_in(self) -> None:
        connection = self._reader.connection
        try:
            notes = read_notes(connection)
            (logged,) = connection.execute(statements().logged_bytes).fetchone()
            if (logged or 0) // 8 > MOST_LOGGED * self._settings.generation:
                raise StorageError("an older Kapla left it unfinished: start kaplad on it once")
            recent = RecentPlaces(self._settings.generation)
            recent.load(read_log(connection), moved_of(notes))
        except (sqlite3.Error, ValueError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            raise StorageError(
                f"what finds its newest blocks is damaged: kaplad mends that ({error})"
            ) from error
        # An odd number: the new index is not whole, and what it lacks may be in the old one.
        self._database.rebuilds = int(Note.REBUILD_BELOW in notes)
        self._database.recent = recent


def _check_version(connection: sqlite3.Connection) -> None:
    """Raises: StorageError, sqlite3.Error."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if not tables:
        raise StorageError("it is empty, and no store yet: what is stored first makes it one")
    if (b"kapla_schema",) not in tables:
        raise StorageError("the database is not a Kapla store")
    rows = connection.execute("SELECT version FROM kapla_schema").fetchall()
    version = rows[0][0] if len(rows) == 1 else None
    if not isinstance(version, int) or version < 1:
        raise StorageError("the database is not a Kapla store")
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"the store has schema version {version}, and this program reads {SCHEMA_VERSION}: "
            + (
                "start kaplad on it once, or store something there, and it becomes a newer one"
                if version < SCHEMA_VERSION
                else "a newer Kapla wrote it"
            )
        )


def _at_once(connection: sqlite3.Connection, read: Callable[[], _T]) -> _T:
    """Read several things as they are at one moment."""
    connection.execute("BEGIN")
    try:
        return read()
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

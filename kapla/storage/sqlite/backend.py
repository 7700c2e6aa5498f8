"""A SQLite store behind the port that the front uses."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.storage.pins import Hold
from kapla.storage.port import Kept, Listing, StoreSettings, Writer
from kapla.storage.sqlite.care.dropping import drop_bad
from kapla.storage.sqlite.care.looking import Look, Looker
from kapla.storage.sqlite.damage import transaction, unreadable
from kapla.storage.sqlite.database import open_database, opening
from kapla.storage.sqlite.keeping.state import Hold as SqliteHold
from kapla.storage.sqlite.lending import LentReader
from kapla.storage.sqlite.listing import pages_of
from kapla.storage.sqlite.notes import Note, read_notes, write_notes
from kapla.storage.sqlite.state import Database, SqliteSettings
from kapla.storage.sqlite.writer import SqliteWriter

__all__ = ["SqliteBackend"]

_log = logging.getLogger(__name__)


class SqliteBackend:
    """One file. Its one writer has the pins, which those who find blocks ask for what to hold."""

    failures: tuple[type[Exception], ...] = (sqlite3.Error,)
    readers = 1
    writers = 1

    def __init__(self, settings: SqliteSettings) -> None:
        """Make or upgrade the file. Raises: StorageError."""
        self.database: Database = open_database(settings)
        self._writer: _Writer | None = None

    def reader(self) -> _Reader:
        """Open a connection. Raises: StorageError."""
        with opening(self.database.settings.path):
            return _Reader(self)

    def writer(self) -> Writer:
        """Open a connection; one at a time. Raises: StorageError."""
        with opening(self.database.settings.path):
            self._writer = _Writer(self.database)
            # Its pins know the holds that they made, and no others.
            return cast(Writer, self._writer)

    def looker(self) -> _Looker:
        """Open a connection."""
        return _Looker(self.database.settings)

    def listing(self) -> Listing:
        """The list of the blocks, in the order of their arrival."""
        return pages_of(self.database.settings)

    def totals(self) -> dict[int, int]:
        """How many blocks of each size there are. Raises: StoreUnavailable."""
        if self.database.totals is None:
            raise StoreUnavailable("the totals were damaged, and the blocks are counted anew")
        return dict(self.database.totals)

    def kept(self) -> Kept:
        """What is pinned and lent."""
        keeping = self.database.keeping
        return Kept(len(keeping.pinned), len(keeping.kept), len(keeping.lent))

    @property
    def evicted_blocks(self) -> int:
        """How many made room for others since the start."""
        return self.database.evicted_blocks

    @property
    def path(self) -> Path:
        """The file."""
        return self.database.settings.path

    @property
    def is_writer_wanted(self) -> bool:
        """Whether something is damaged, which the writer mends."""
        return self.database.is_rebuild_wanted

    def hold(self, hold: SqliteHold, places: list[tuple[int, int]]) -> None:
        """Hold blocks that were found: (id, size). Raises: StoreFull."""
        assert self._writer is not None
        self._writer.pins.quota.hold_found(hold, places)

    def close(self) -> None:
        """There is nothing besides the sessions."""


class _Reader(LentReader):
    def __init__(self, backend: SqliteBackend) -> None:
        super().__init__(backend.database)
        self._backend = backend

    def hold_found(self, references: Sequence[Reference], hold: Hold) -> set[Reference]:
        """See `kapla.storage.port.Reader`."""
        own = cast(SqliteHold, hold)
        return self.hold_many(references, lambda places: self._backend.hold(own, places))


class _Looker(Looker):
    def look(self, after: int, size: int) -> Look:
        """See `kapla.storage.port.Looker`."""
        try:
            return super().look(after, size)
        except sqlite3.Error as error:
            raise unreadable(error) from error


class _Writer(SqliteWriter):
    def drop_bad(self, suspects: Sequence[object]) -> int:
        """See `kapla.storage.port.Writer`."""
        return drop_bad(self, cast(Sequence[int], suspects))

    def scrub_place(self) -> tuple[int | None, int | None]:
        """See `kapla.storage.port.Writer`."""
        try:
            notes = dict(read_notes(self.connection))
        except ValueError:
            # Damaged, and made anew when they are next written.
            return None, None
        return notes.get(Note.SCRUB_AFTER), notes.get(Note.SCRUB_BEGAN)

    def note_scrub(self, after: int | None, began: int | None) -> None:
        """See `kapla.storage.port.Writer`."""
        with transaction(self.connection):
            write_notes(self.connection, {Note.SCRUB_AFTER: after, Note.SCRUB_BEGAN: began})

    def settle(self, settings: StoreSettings) -> None:
        """See `kapla.storage.port.Writer`."""
        assert isinstance(settings, SqliteSettings)
        super().settle(settings)

    def close(self) -> None:
        """Write what was put off, and empty the WAL: it keeps what cannot be moved."""
        started = time.monotonic()
        try:
            self.finish()
        except Exception as error:
            _log.warning("What is lent without a pin could not be written: %s", error)
        try:
            self.checkpoint()
            _log.debug("Checkpoint took %.2f s", time.monotonic() - started)
        except Exception as error:
            _log.warning("The WAL could not be emptied: %s", error)
        super().close()

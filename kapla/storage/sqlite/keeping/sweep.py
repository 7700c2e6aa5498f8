"""Taking out of the index what leads to nothing any more.

Ids are never given twice, so a stale place only takes up room. One alone would cost a page that is
written; so they wait until they are a good part of the index, which is then gone through once, in
its own order, some at a time.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from kapla.storage.sqlite.damage import transaction
from kapla.storage.sqlite.keeping.eviction import Evictor
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.notes import Note, write_notes
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["Sweep"]

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
_AT_ONCE: Final = 2048
# Begun when for so many blocks there is one stale place.
_PART: Final = 4


class Sweep:
    """Sweeps the index on the writer's connection."""

    def __init__(
        self, connection: sqlite3.Connection, database: Database, evictor: Evictor
    ) -> None:
        self._connection = connection
        self._database = database
        self._evictor = evictor
        self._at: int | None = None
        self._stale_before = 0

    def step(self) -> bool:
        """Do a little, if it is worth it; tells if there is more. Raises: sqlite3.Error."""
        if self._at is None:
            if not self._is_worth_it():
                return False
            self._at = _LOWEST
            self._stale_before = self._evictor.stale
        rows = self._connection.execute(
            statements().places_from, (self._at, _AT_ONCE, 0)
        ).fetchall()
        last = rows[-1][0] if len(rows) == _AT_ONCE else _HIGHEST
        self._delete(rows, is_end=last == _HIGHEST)
        # Where several places share a prefix some may be left for the next time.
        self._at = None if last == _HIGHEST else last + 1
        return self._at is not None

    def _is_worth_it(self) -> bool:
        database = self._database
        if database.totals is None or database.is_rebuilding or not database.gone:
            return False
        enough = max(database.settings.generation, sum(database.totals.values()) // _PART)
        return self._evictor.stale >= enough

    def _delete(self, rows: list[tuple[int, int]], *, is_end: bool) -> None:
        gone = Ids(block_id for _, block_id in rows) & self._database.gone
        stale = [row for row in rows if row[1] in gone]
        left = self._evictor.stale - self._stale_before
        if stale or is_end:
            with transaction(self._connection):
                self._connection.executemany(statements().delete_place, stale)
                if is_end:
                    write_notes(self._connection, {Note.STALE_PLACES: left})
        if is_end:
            self._evictor.stale = left

"""Where only what is kept is left, and its pages are half empty, it moves closer together.

What is kept is not touched by eviction; so where it came between blocks that went, pages are left
with a few rows each, and nobody else has room in these. Before a block is refused for that, rows of
such pages go to the end, under new ids, and their pins are told.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from eris.model import BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, transaction
from kapla.storage.sqlite.keeping.eviction import Batch, Evictor, reference_of_row
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.quota import stored
from kapla.storage.sqlite.keeping.room import Room
from kapla.storage.sqlite.statements import statements

__all__ = ["Compactor"]

# Looked at together, as the pages of so many rows are either worth it or not; large blocks fill
# pages of their own.
_ROWS: Final = 128
_DENSE: Final = 0.9
# What moves with one transaction, in which all pins are read.
_BATCH: Final = 4 * 1024 * 1024
_BATCH_PART: Final = 32
# Begun where more of the file than that is neither free nor taken by blocks.
_WASTE_PART: Final = 24


class Compactor(Evictor):
    """Evicts, and makes room where nothing can go."""

    _next: int | None = None
    _last: int = 0
    _fruitless: int = 0

    def compact(self, room: Room) -> bool:
        """Move some of what is kept together; returns whether there is more room then.

        To be called where nothing is left that may go. Raises: sqlite3.Error.
        """
        if self._rebuild() is not None or not self._is_worth_it(room):
            return False
        used = _used(room)
        while self._next is not None:
            try:
                self._move_some()
            except sqlite3.Error as error:
                if not (is_damage(error) or is_bad_disk(error)):
                    raise
                self._database.tell_damage(error)
                self._next = None
            if _used(room) < used:
                return True
        # Not again before there is more to be had.
        self._fruitless = self._waste(room)
        return False

    def _is_worth_it(self, room: Room) -> bool:
        if self._next is None:
            if self._waste(room) <= self._fruitless + _used(room) // _WASTE_PART:
                return False
            self._next, self._last = 0, self._numbering.next
        return True

    def _waste(self, room: Room) -> int:
        totals = self._database.totals
        if totals is None:
            return 0
        return _used(room) - stored(Sizes(totals[BlockSize.SMALL], totals[BlockSize.LARGE]))

    def _move_some(self) -> None:
        with self._database.keeping.lock, self._announced():
            batch = Batch(self._hand, Ids())
            with self._renumbered(batch), transaction(self._connection):
                moved, most = 0, self._database.settings.max_size or _BATCH
                while moved < min(_BATCH, most // _BATCH_PART) and (rows := self._rows_from()):
                    moved += self._move_sparse(rows, batch)
                if batch.passed:
                    batch.loose = Ids(block_id for block_id, _ in batch.passed)
                    self._write(batch)
            if batch.passed:
                self._confirm(batch)
                self._safe.subtract(batch.loose)

    def _rows_from(self) -> list[tuple[Any, ...]]:
        if self._next is None:
            return []
        values = (self._next, self._last - 1, _ROWS, 0)
        rows = self._connection.execute(statements().next_rows, values).fetchall()
        self._next = rows[-1][0] + 1 if rows else None
        return rows

    def _move_sparse(self, rows: list[tuple[Any, ...]], batch: Batch) -> int:
        """Move the small ones of these, if many of their neighbours are gone; returns the bytes."""
        small = [row for row in rows if row[2] == BlockSize.SMALL and reference_of_row(row)]
        between = rows[-1][0] - rows[0][0] + 1
        if not small or len(rows) >= _DENSE * between:
            return 0
        self._move(small, batch)
        runs = [(row[0], row[0]) for row in small]
        self._connection.executemany(statements().delete_run, runs)
        batch.passed += [(row[0], row[2]) for row in small]
        batch.runs += runs
        return len(small) * BlockSize.SMALL


def _used(room: Room) -> int:
    return room.file_bytes() - room.free_bytes()

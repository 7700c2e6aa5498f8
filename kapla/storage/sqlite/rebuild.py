"""Making the index and the totals anew out of the blocks, beside the store's other work.

The damaged index is put aside under another name and asked for what the new one lacks; new places
move into the new one at once, so nothing waits for the end. The blocks are read from the newest to
the oldest, some at a time, and their places inserted in sorted runs. A block that cannot be read is
passed over. How far it has come is noted after each run.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from eris.model import BlockSize
from kapla.storage.sqlite.damage import drop_table, is_damage, replace_tables, transaction
from kapla.storage.sqlite.notes import REBUILD_NOTES, Note, counted_note, read_notes, write_notes
from kapla.storage.sqlite.recent import GENERATION
from kapla.storage.sqlite.schema import LOWEST_ID, prefix_of
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["Rebuild", "renew_totals", "write_totals"]

_log = logging.getLogger(__name__)

# What is done at once: a few milliseconds, for which a PUT may have to wait.
_SCANNED: Final = 512
_INSERTED: Final = 1024
# Sorted by itself, and so many of these a run: some 30 MiB.
_PART: Final = GENERATION
_PARTS: Final = 4


class Rebuild:
    """The work of making one index anew, on the writer's connection."""

    def __init__(self, connection: sqlite3.Connection, database: Database, below: int) -> None:
        self.scanned = 0
        """How many ids were looked at in this run of the program."""
        self._connection = connection
        self._database = database
        self._started = time.monotonic()
        self._last_id = below - 1
        # Looked at from here downwards; and from where on all is in the index.
        self._below = below
        # As it stands in the notes.
        self._noted_below = below
        self._is_all_read = False
        self._counted = dict.fromkeys(map(int, BlockSize), 0)
        self._part: list[tuple[int, int]] = []
        self._parts: list[list[tuple[int, int]]] = []
        self._sorted: Iterator[tuple[int, int]] | None = None

    def begin(self) -> None:
        """Put the index aside and begin a new one. Raises: sqlite3.Error."""
        database, connection = self._database, self._connection
        database.is_rebuild_wanted = database.is_placed = False
        if not database.is_rebuilding:
            database.rebuilds += 1
        if _has_damaged_places(connection):
            # The new one was damaged before it was whole.
            replace_tables(connection, ["places"], self._begin_index)
            return
        with transaction(connection):
            connection.execute("ALTER TABLE places RENAME TO damaged_places")
            self._begin_index()

    def resume(self, notes: dict[Note, int]) -> None:
        """Go on where a run of the program ended."""
        if not self._database.is_rebuilding:
            self._database.rebuilds += 1
        self._below = self._noted_below = notes[Note.REBUILD_BELOW]
        self._counted = {size: notes.get(counted_note(size), 0) for size in self._counted}

    def end_run(self) -> None:
        """Have what is read in the index before more is read. Raises: sqlite3.Error."""
        if self._sorted is None:
            self._parts.append(sorted(self._part, key=itemgetter(0)))
            self._part = []
            self._sorted = merge(*self._parts)
        while self._sorted is not None:
            self._insert()

    def step(self) -> bool:
        """Do a little of it; returns whether all is done. Raises: sqlite3.Error."""
        if self._sorted is not None:
            self._insert()
        elif not self._is_all_read and len(self._parts) < _PARTS:
            self._scan()
        elif self._parts:
            self._sorted = merge(*self._parts)
        else:
            self._finish()
            return True
        return False

    def note_gone(self, gone: Iterable[tuple[int, int]]) -> None:
        """Blocks are being deleted, as (id, size), in a transaction: what was there before is less.

        Those that the notes have counted were there, and are counted with what changed since.
        Raises: sqlite3.Error.
        """
        notes = read_notes(self._connection)
        less = {
            counted_note(size, before=True): self._count_below(gone, size, self._noted_below)
            for size in self._counted
        }
        write_notes(
            self._connection, {note: notes.get(note, 0) - count for note, count in less.items()}
        )

    def confirm_gone(self, gone: Iterable[tuple[int, int]]) -> None:
        """They are deleted: what was read and is not yet noted counts as if it had not been."""
        for size in self._counted:
            self._counted[size] -= self._count_below(gone, size, self._noted_below)
            self._counted[size] += self._count_below(gone, size, self._below)

    @staticmethod
    def _count_below(gone: Iterable[tuple[int, int]], size: int, below: int) -> int:
        return sum(found == size and block_id < below for block_id, found in gone)

    def _begin_index(self) -> None:
        self._connection.execute(statements().create["places"])
        notes: dict[Note, int | None] = {
            Note.REBUILD_BELOW: self._below,
            Note.REBUILD_WANTED: None,
            # What cannot be read has none.
            Note.ALL_PLACED: None,
        }
        before = self._stored_totals()
        for size in self._counted:
            notes[counted_note(size)] = 0
            notes[counted_note(size, before=True)] = before[size]
        write_notes(self._connection, notes)

    def _scan(self) -> None:
        rows = self._rows()
        for block_id, reference, length in rows:
            if isinstance(reference, bytes) and length in self._counted:
                self._part.append((prefix_of(reference), block_id))
                self._counted[length] += 1
        if self._is_all_read or len(self._part) >= _PART:
            self._part.sort(key=itemgetter(0))
            self._parts.append(self._part)
            self._part = []

    def _rows(self) -> list[tuple[Any, ...]]:
        texts = statements()
        try:
            # SQLAlchemy's LIMIT has an offset too.
            values = (self._below, _SCANNED, 0)
            rows = self._connection.execute(texts.scan_below, values).fetchall()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return self._readable_rows()
        self._is_all_read = len(rows) < _SCANNED
        self._below = rows[-1][0] if rows else self._below
        self.scanned += len(rows)
        return rows

    def _readable_rows(self) -> list[tuple[Any, ...]]:
        """Ask for each id alone, where a page cannot be read; where there is none, leap."""
        ids = range(self._below - 1, max(self._below - 1 - _SCANNED, LOWEST_ID - 1), -1)
        rows = []
        for block_id in ids:
            try:
                row = self._connection.execute(statements().scan_one, (block_id,)).fetchone()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                continue
            if row is not None:
                rows.append(row)
        self._below = max(self._below - _SCANNED, LOWEST_ID)
        if not rows:
            self._leap()
        self._is_all_read = self._below <= LOWEST_ID
        self.scanned += _SCANNED
        return rows

    def _leap(self) -> None:
        """Go down to the next block that can be read: there may be any number of ids between.

        Of what can be read below a damaged page nothing is passed over.
        """
        above, leap = self._below, _SCANNED
        below, found = above, self._next_below(above)
        while found is None and below > LOWEST_ID:
            below = max(above - leap, LOWEST_ID)
            found = self._next_below(below)
            leap *= 2
        while found is not None and above - below > 1:
            middle = (above + below) // 2
            nearer = self._next_below(middle)
            below, above = (below, middle) if nearer is None else (middle, above)
            found = found if nearer is None else nearer
        # To look below an id is to look at its own page first: the next above the damage is asked
        # for by itself.
        is_beyond = found is not None and below < self._below
        self._below = LOWEST_ID if found is None else below + 1 if is_beyond else found + 1

    def _next_below(self, below: int) -> int | None:
        """The next id below this one that there is, or the lowest; None if it cannot be read."""
        try:
            row = self._connection.execute(statements().scan_below, (below, 1, 0)).fetchone()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return None
        return LOWEST_ID - 1 if row is None else int(row[0])

    def _insert(self) -> None:
        assert self._sorted is not None
        places = list(islice(self._sorted, _INSERTED))
        with transaction(self._connection):
            self._connection.executemany(statements().insert_place, places)
            if len(places) < _INSERTED:
                notes: dict[Note, int | None] = {Note.REBUILD_BELOW: self._below}
                notes |= {counted_note(size): count for size, count in self._counted.items()}
                write_notes(self._connection, notes)
        if len(places) < _INSERTED:
            self._noted_below = self._below
            self._sorted = None
            self._parts = []

    def _finish(self) -> None:
        drop_table(self._connection, "damaged_places")
        with transaction(self._connection):
            totals = self._new_totals()
            write_totals(self._connection, totals)
            write_notes(self._connection, dict.fromkeys(REBUILD_NOTES))
        self._database.totals = totals
        self._database.rebuilds += 1
        _log.info(
            "The index is made anew: %d blocks in %.1f s",
            sum(self._counted.values()),
            time.monotonic() - self._started,
        )

    def _new_totals(self) -> dict[int, int]:
        """What was counted, and what came after the counting began."""
        notes = dict(self._connection.execute(statements().notes).fetchall())
        now = self._stored_totals()
        return {
            size: counted + now[size] - notes.get(counted_note(size, before=True), 0)
            for size, counted in self._counted.items()
        }

    def _stored_totals(self) -> dict[int, int]:
        stored = dict(self._connection.execute(statements().totals).fetchall())
        return {size: stored[size] for size in self._counted}


def write_totals(connection: sqlite3.Connection, totals: dict[int, int]) -> None:
    """Put these in the place of what the totals were; inside a transaction."""
    connection.execute(statements().clear_totals)
    connection.executemany(statements().insert_total, list(totals.items()))


def renew_totals(connection: sqlite3.Connection, known: dict[int, int] | None) -> None:
    """Make the table anew: with these, or as unknown until all blocks are counted."""

    def make() -> None:
        connection.execute(statements().create["totals"])
        write_totals(connection, known or {int(size): 0 for size in BlockSize})
        write_notes(connection, {Note.TOTALS_UNKNOWN: 1 if known is None else None})

    replace_tables(connection, ["totals"], make)


def _has_damaged_places(connection: sqlite3.Connection) -> bool:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return (b"damaged_places",) in names

"""What is lent while it is there, though no pin has it; for the writer's thread.

A set of ids, which follows blocks to their new ids and forgets those that went. It stands in one
row, written anew when there is time, at the latest some seconds after it changed. So a daemon that
is killed may lend less afterwards, but never something else: no id is given twice.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from typing import Final

from kapla.errors import StorageError
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, renew_table, transaction
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["LentCache"]

_log = logging.getLogger(__name__)

_IDLE_S: Final = 0.2
_LATEST_S: Final = 10.0


class LentCache:
    """The blocks of a store that are lent without a pin."""

    def __init__(self, connection: sqlite3.Connection, database: Database) -> None:
        self._connection = connection
        self._keeping = database.keeping
        self._database = database
        self._ids = Ids()
        # What went with the last eviction: readers that began before it may still find it.
        self._left = Ids()
        self._is_damaged = False
        self._due_s: float | None = None

    @property
    def _is_on(self) -> bool:
        return self._database.settings.lend_cache

    @property
    def lent(self) -> Ids:
        """What of it may be given to others: the set itself, or nothing if that is switched off."""
        return self._ids if self._is_on else Ids()

    def load(self) -> None:
        """Read the row; if it is damaged nothing is lent by it. Raises: sqlite3.Error."""
        try:
            row = self._connection.execute(statements().lent).fetchone()
            self._ids = Ids() if row is None else Ids.unpack(row[0])
        except (sqlite3.Error, StorageError) as error:
            if isinstance(error, sqlite3.Error) and not (is_damage(error) or is_bad_disk(error)):
                raise
            self._is_damaged = True
            self._changed()
            _log.error("What was lent without a pin cannot be read, and is lent no more: %s", error)

    def add(self, ids: Ids) -> int:
        """Lend these while they are there; returns how many are lent so."""
        if not self._is_on:
            return 0
        self._ids.unite(ids)
        self._keeping.lent.unite(ids)
        self._changed()
        return len(ids)

    def has_any(self, ids: Iterable[int]) -> bool:
        """Whether some of these are lent so, or would be."""
        return any(block_id in self._ids for block_id in ids)

    def moved(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Blocks have other ids now, as (new id, old id)."""
        new = [new for new, old in pairs if old in self._ids]
        if new:
            self._ids.add(new)
            if self._is_on:
                self._keeping.lent.add(new)
            self._changed()

    def passed(self, gone: Ids) -> None:
        """Nothing has these ids any more."""
        # What is in no pin leaves the union only here.
        self._keeping.lent.subtract(self._left)
        self._left = self._ids & gone
        if self._left:
            self._ids.subtract(self._left)
            self._changed()

    def chore(self, is_idle: bool) -> float | None:
        """Write the row if it is time; see `kapla.storage.sqlite.keeper`. Raises: sqlite3.Error."""
        if self._due_s is None:
            return None
        if not is_idle and time.monotonic() < self._due_s:
            return _IDLE_S
        self.write()
        return None

    def write(self) -> None:
        """Write the row, if it changed. Raises: sqlite3.Error."""
        if self._due_s is None:
            return
        if self._is_damaged:
            renew_table(self._connection, "lent")
            self._is_damaged = False
        try:
            self._write()
        except sqlite3.Error as error:
            # The next time, into a new table.
            self._is_damaged |= is_damage(error)
            raise
        self._due_s = None

    def _write(self) -> None:
        texts = statements()
        with transaction(self._connection):
            self._connection.execute(texts.clear_lent)
            if self._ids:
                self._connection.execute(texts.insert_lent, (1, self._ids.pack()))

    def _changed(self) -> None:
        if self._due_s is None:
            self._due_s = time.monotonic() + _LATEST_S

"""Which id comes next: none is ever given twice, though all that came last may be gone."""

from __future__ import annotations

import contextlib
import logging
import sqlite3

from eris.model import BlockSize
from kapla.storage.sqlite.damage import is_damage
from kapla.storage.sqlite.notes import Note, read_notes
from kapla.storage.sqlite.schema import LOWEST_ID
from kapla.storage.sqlite.statements import statements

__all__ = ["Numbering"]

_log = logging.getLogger(__name__)


class Numbering:
    """The ids of a store, for its writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Find where to go on. Raises: sqlite3.Error."""
        self.is_turned = False
        self.is_end_damaged = False
        """Whether the page where the newest blocks are cannot be read."""
        self._noted: dict[Note, int] = {}
        with contextlib.suppress(ValueError):
            self._noted = read_notes(connection)
        self._highest = self._find_highest(connection)
        self.next = self._highest + 1

    @property
    def highest(self) -> int:
        """As numbers go, no id is above this one."""
        return self._highest if self.is_turned else max(self._highest, self.next - 1)

    def notes(self) -> dict[Note, int | None]:
        """What must be noted along with it when blocks go."""
        return {Note.LAST_TURNED_ID if self.is_turned else Note.LAST_ID: self.next - 1}

    def turn(self, connection: sqlite3.Connection) -> None:
        """Go on at the other end, as the page where the newest blocks are is damaged.

        Ids go on from the lowest there can be. Raises: sqlite3.Error.
        """
        (last_id,) = connection.execute(statements().last_id_below, (0,)).fetchone()
        self._highest = self.highest
        noted = self._noted.get(Note.LAST_TURNED_ID, LOWEST_ID)
        self.next = max(LOWEST_ID if last_id is None else last_id, noted) + 1
        self.is_turned = True
        _log.warning("The store's last page cannot be written: blocks are added before the first")

    def _find_highest(self, connection: sqlite3.Connection) -> int:
        noted = max(self._noted.get(Note.LAST_ID, 0), 0)
        try:
            (last_id,) = connection.execute(statements().last_id).fetchone()
            return max(last_id or 0, noted)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self.is_end_damaged = True
        # Since blocks last went, ids are dense, and a page holds so many blocks at the most.
        page, count = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count")
        )
        return noted + int(count * (page // BlockSize.SMALL))

"""That a store is about to reach its largest size: said once, and again only after it was emptier.

A store that lets blocks go stays full from then on, and whoever minds that should know beforehand.
"""

from __future__ import annotations

import logging
from typing import Final

from kapla.sizes import size_text
from kapla.storage.sqlite.keeping.room import Room
from kapla.storage.sqlite.state import Database

__all__ = ["NearlyFull"]

_log = logging.getLogger(__name__)

_FULL: Final = 0.9
# Below this it is emptier: blocks come and go all the time.
_EMPTIER: Final = 0.85


class NearlyFull:
    """Watches the room of a store, for the writer's thread."""

    def __init__(self, database: Database, room: Room) -> None:
        self._database = database
        self._room = room
        self._is_told = False

    def look(self) -> None:
        """Look whether there is something to say. Raises: sqlite3.Error."""
        settings = self._database.settings
        # What the file may have, without its WAL and the reserve.
        cap = self._room.cap
        if settings.max_size is None or cap is None:
            return
        used = self._room.file_bytes() - self._room.free_bytes()
        if used >= _FULL * cap and not self._is_told:
            self._is_told = True
            then = (
                "then blocks that nobody keeps go for new ones"
                if settings.evicts
                else "then new blocks are refused"
            )
            _log.warning(
                "The store has reached %d %% of its max-size of %s; %s",
                100 * used // cap,
                size_text(settings.max_size),
                then,
            )
        elif used < _EMPTIER * cap:
            self._is_told = False

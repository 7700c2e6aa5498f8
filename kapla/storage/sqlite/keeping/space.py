"""What the writer does so that there is room: before it puts, when the disk is full, meanwhile."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Final

from kapla.storage.sqlite.files import StoreFiles
from kapla.storage.sqlite.keeping.compaction import Compactor
from kapla.storage.sqlite.keeping.nearly_full import NearlyFull
from kapla.storage.sqlite.keeping.reserve import Reserve
from kapla.storage.sqlite.keeping.room import WAL_PAGES, Room, weight_of
from kapla.storage.sqlite.keeping.sweep import Sweep
from kapla.storage.sqlite.keeping.traffic import PinTraffic
from kapla.storage.sqlite.numbering import Numbering
from kapla.storage.sqlite.rebuild import Rebuild
from kapla.storage.sqlite.state import Database, SqliteSettings

__all__ = ["Space"]

_log = logging.getLogger(__name__)

# Made beyond what a round needs, so that not each one has a transaction more.
_HEADROOM: Final = 4 * 1024 * 1024
_HEADROOM_PART: Final = 128
# Pages by which the blocks may be over the cap: an index grows by pages, and moves later. What was
# just put must not go for that, where all else is pinned.
_SLACK: Final = 8
# How long a PUT may have to wait for a piece of what is done meanwhile.
_SHRUNK: Final = 1024 * 1024
_VACUUMED: Final = 64
_RESERVE_S: Final = 5.0


class Space:
    """The room of a store, on the writer's connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Database,
        files: StoreFiles,
        numbering: Numbering,
        rebuild: Callable[[], Rebuild | None],
        pins: Callable[[], PinTraffic],
    ) -> None:
        self._database = database
        self._connection = connection
        self._reserve = self._new_reserve()
        self.room = Room(connection, database, files, self._reserve)
        self._nearly_full = NearlyFull(database, self.room)
        self._evictor = Compactor(connection, database, numbering, rebuild, pins)
        self._sweep = Sweep(connection, database, self._evictor)
        self._headroom = 0
        self._look_again = 0.0
        self._is_vacuum_of_use = True
        self._begin()

    def settle(self) -> None:
        """Let the store's settings of now hold. Raises: sqlite3.Error."""
        before, after = self._reserve, self._new_reserve()
        if after.size != before.size:
            before.release()
            self._reserve = self.room.reserve = after
        self._look_again = 0.0
        self._is_vacuum_of_use = True
        self._begin()

    def _begin(self) -> None:
        settings = self._settings
        self._headroom = min(_HEADROOM, (settings.max_size or _HEADROOM) // _HEADROOM_PART)
        pages = self.room.wal_pages() if settings.evicts else WAL_PAGES
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
        if not settings.evicts:
            self._reserve.release()

    @property
    def _settings(self) -> SqliteSettings:
        return self._database.settings

    def _new_reserve(self) -> Reserve:
        settings = self._settings
        return Reserve(settings.path, settings.max_size, settings.min_free)

    def make(self, blocks: Iterable[bytes]) -> None:
        """Have something go, if these need room; before it is known which of them are there.

        Raises: sqlite3.Error.
        """
        if self._settings.evicts:
            self._make(sum(weight_of(len(block)) for block in blocks))

    def make_bytes(self, needed: int) -> bool:
        """Have something go, if so much of the file is needed; tells whether there is room then.

        Raises: sqlite3.Error.
        """
        if self._settings.evicts:
            self._make(needed)
        return not self._settings.has_limit or self.room.allowed() >= needed

    def _make(self, needed: int) -> None:
        while (left := self.room.left()) < needed:
            if self._evictor.evict(needed - left + self._headroom):
                continue
            if not self._evictor.compact(self.room):
                break

    def rescue(self) -> bool:
        """The disk is full: see that something can go in spite of it, and tell whether it may."""
        if not self._settings.evicts:
            return False
        if self._reserve.release():
            _log.warning("The disk is full: the store's reserve is given up, and blocks go")
            self._look_again = time.monotonic() + _RESERVE_S
        # What the WAL holds can be written over once it is in the file.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return True

    def chore(self, is_idle: bool) -> float | None:
        """Do a little of what there is to do, and tell when to call again: see `Keeper.chore`.

        Raises: sqlite3.Error.
        """
        if not self._settings.has_limit:
            return None
        self._nearly_full.look()
        if self._settings.evicts:
            self._see_to_reserve()
            if self._shrink() or self._sweep.step():
                return 0.0
        return 0.0 if self._vacuum() else None

    def _shrink(self) -> bool:
        surplus = self.room.surplus()
        if surplus <= max(self._headroom, _SLACK * self.room.page):
            return False
        evictor = self._evictor
        return evictor.evict(min(surplus, _SHRUNK)) or evictor.compact(self.room)

    def _vacuum(self) -> bool:
        """Give room of the file back that it should not have; tells whether there is more to do."""
        cap = self.room.cap
        if cap is None or not self._is_vacuum_of_use:
            return False
        before = self.room.file_bytes()
        if before <= cap or not self.room.free_bytes():
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({_VACUUMED})").fetchall()
        # A file that another program made may not be able to.
        self._is_vacuum_of_use = self.room.file_bytes() < before
        return self._is_vacuum_of_use

    def _see_to_reserve(self) -> None:
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + _RESERVE_S
        if not self._reserve.is_there and self.room.on_disk() > 2 * self._reserve.size:
            self._reserve.make()

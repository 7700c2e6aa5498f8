"""How much room there is: up to the largest size of the store, and on its disk.

The cap is for the file and its WAL together. The file's free pages are room, and are used before it
grows. Where the disk has less free than is left to others the store does not grow; it does not
shrink either, or whoever fills the disk would empty it.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from kapla.storage.sqlite.files import StoreFiles
from kapla.storage.sqlite.keeping.reserve import Reserve
from kapla.storage.sqlite.state import Database, SqliteSettings

__all__ = ["WAL_PAGES", "Room", "weight_of"]

_MIB: Final = 1024 * 1024
_WAL: Final = 18 * _MIB
"""What the WAL has at most when nobody reads for long: SQLite empties it at 1000 pages."""

WAL_PAGES: Final = 1000
"""At so many SQLite empties the WAL, unless it is told otherwise."""
_FEWEST_WAL_PAGES: Final = 16

# Of a small cap, or a small disk, so much at the most is set aside for the WAL.
_SMALLEST_PART: Final = 16


def weight_of(size: int) -> int:
    """Bytes of the file that a new block of this size takes, with all that is around it."""
    return size + size // 8


class Room:
    """The room of an open store, as its writer sees it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Database,
        files: StoreFiles,
        reserve: Reserve,
    ) -> None:
        self._connection = connection
        self.reserve = reserve
        self._database = database
        self._files = files
        self._directory = os.path.dirname(os.path.realpath(database.settings.path))
        self.page = self._pragma("page_size")

    @property
    def _settings(self) -> SqliteSettings:
        return self._database.settings

    @property
    def cap(self) -> int | None:
        """Bytes that the file may have, so that it and its WAL stay within the largest size."""
        size = self._settings.max_size
        if size is None or not self._settings.evicts:
            return size
        return size - self.reserve.size - min(_WAL, size // _SMALLEST_PART)

    def file_bytes(self) -> int:
        """The size of the file when all of the WAL is in it."""
        return self.page * self._pragma("page_count")

    def free_bytes(self) -> int:
        """Pages of the file that are free to be used again, in bytes."""
        return self.page * self._pragma("freelist_count")

    def left(self) -> int:
        """How many bytes may come before something must go."""
        return self._left(with_disk=True)

    def allowed(self) -> int:
        """How many bytes may come, or are refused. A disk that is full tells so itself."""
        return self._left(with_disk=self._settings.min_free is not None)

    def surplus(self) -> int:
        """By how many bytes the blocks are more than the cap allows."""
        cap = self.cap
        return 0 if cap is None else self.file_bytes() - self.free_bytes() - cap

    def is_disk_the_limit(self) -> bool:
        """Whether a larger cap would make no more room."""
        return self.cap is None or self.left() < self._left(with_disk=False)

    def on_disk(self) -> int:
        """Bytes of the file system that are free, and neither left to others nor the reserve's."""
        found = os.statvfs(self._directory)
        given_up = 0 if self.reserve.is_there else self.reserve.size
        return found.f_bavail * found.f_frsize - (self._settings.min_free or 0) - given_up

    def wal_pages(self) -> int:
        """At how many pages the WAL should be emptied: not so many where there is little room."""
        sizes = [] if self.cap is None else [self.cap]
        if self._settings.min_free is not None:
            sizes.append(max(0, self.on_disk()) + self.file_bytes())
        pages = min(sizes, default=0) // _SMALLEST_PART // self.page
        return max(_FEWEST_WAL_PAGES, min(WAL_PAGES, pages))

    def why_full(self) -> str:
        """What stands in the way of a block that found no room."""
        cap = self.cap
        by_cap = cap is not None and self.surplus() >= -self.page
        if self._settings.evicts:
            if by_cap:
                return (
                    "the store is full, and all of it is pinned: release a pin, or raise max-size"
                )
            return "the disk is full, and all of the store is pinned: make room, or release a pin"
        if by_cap or self._settings.min_free is None:
            return "the store is full: it has reached max-size"
        return "the store is full: its disk has no more than min-free"

    def _left(self, *, with_disk: bool) -> int:
        pages = self.file_bytes()
        used = pages - self.free_bytes()
        limits = [] if self.cap is None else [self.cap]
        if with_disk:
            limits.append(pages + self._growth(pages))
        return min(limits) - used

    def _growth(self, pages: int) -> int:
        """By how many bytes the file may grow, as far as its disk has them."""
        on_disk, wal = self.on_disk(), self._files.wal_bytes
        largest_wal = min(_WAL, max(0, on_disk + pages + wal) // _SMALLEST_PART)
        # What is in the WAL only needs room in the file, and the WAL room to grow.
        due = max(0, pages - self._files.file_bytes) + max(0, largest_wal - wal)
        return max(0, on_disk - due)

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

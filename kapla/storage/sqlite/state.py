"""What the sessions of one open store share: its settings, the newest places, and how it fares."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kapla.storage.pins import quota_of
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.state import Keeping
from kapla.storage.sqlite.recent import GENERATION, RecentPlaces

__all__ = ["Database", "SqliteSettings"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """How a store file is opened.

    `scrub_rate`: bytes a second that are read and hashed in the background; 0: none.

    `synchronous`: with "normal" an acknowledged block survives a killed process, with "full" also a
    power cut, at the price of an fsync for each commit. `max_size`: bytes the file may grow to, or
    None; `min_free`: bytes of the file system that the store leaves to others, or None.
    `when_full`: what is not kept by anybody makes room, or what is new is refused.
    `rebuild_index`: make the index and the totals anew, whether or not they look damaged.
    """

    path: Path
    synchronous: Literal["normal", "full"] = "normal"
    max_size: int | None = None
    cache_bytes: int = 16 * 1024 * 1024
    mmap_bytes: int = 0
    generation: int = GENERATION
    rebuild_index: bool = False
    min_free: int | None = None
    when_full: Literal["evict", "refuse"] = "evict"
    scrub_rate: int = 0
    max_pinned: int | None = None
    """Bytes that the pins of one user may hold. None: half of `max_size`, if there is that."""

    lend_cache: bool = True
    """Whether blocks that no pin has may be lent."""

    reads_only: bool = False
    """Nothing is written, and no lock is held: somebody else may write meanwhile."""

    @property
    def pinned_quota(self) -> int | None:
        """Bytes that the pins of one user may hold together, or None: any number."""
        return quota_of(self.max_pinned, self.max_size)

    @property
    def has_limit(self) -> bool:
        """Whether there can be too little room for what comes."""
        return self.max_size is not None or self.min_free is not None

    @property
    def evicts(self) -> bool:
        """Whether room is made then: only so it matters what is read."""
        return self.has_limit and self.when_full == "evict"


@dataclass(slots=True)
class Database:
    """An open store: what its readers and its writer share.

    The writer changes it, but for what is found damaged.
    """

    settings: SqliteSettings
    recent: RecentPlaces
    keeping: Keeping
    totals: dict[int, int] | None = None
    """Blocks of each size that are there; None while they are counted anew."""
    is_rebuild_wanted: bool = False
    """Something that follows from the blocks is damaged."""
    rebuilds: int = 0
    """Goes up by one when rebuilding begins and when it ends: odd while it is under way."""
    is_placed: bool = False
    """Whether for certain a row that can be read counts as there, without a look at the index: what
    is given up in a damaged store may leave its row behind, and loses only its place."""
    gone: Ids = field(default_factory=Ids)
    """Ids that lead to nothing any more, as far as that was seen since the start."""
    evictions: int = 0
    """Goes up by one when a batch begins to go and when it is gone: odd while it is under way."""
    evicted_blocks: int = 0
    """How many blocks made room for others since the start."""
    _is_damage_told: bool = field(default=False)

    @property
    def is_rebuilding(self) -> bool:
        """Whether a new index is being filled: what it lacks may be in the damaged one."""
        return self.rebuilds % 2 == 1

    def tell_damage(self, error: sqlite3.Error) -> None:
        """Some block cannot be read: said once, as peers may ask for it again and again."""
        if not self._is_damage_told:
            self._is_damage_told = True
            _log.error("Some blocks cannot be read and count as not there: %s", error)

    def want_rebuild(self, what: str, error: object) -> None:
        """Something that follows from the blocks cannot be used."""
        if not self.is_rebuild_wanted:
            self.is_rebuild_wanted = True
            _log.warning("The store's %s is damaged, and made anew: %s", what, error)

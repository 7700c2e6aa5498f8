"""What an open store knows of keeping: what is pinned, held, lent, and was read lately."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from eris.model import BlockSize
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Hold", "Keeping"]


@dataclass(slots=True, eq=False)
class Hold:
    """The blocks of an open pin so far. `owner` is a uid."""

    owner: int
    small: Ids = field(default_factory=Ids)
    large: Ids = field(default_factory=Ids)


class Keeping:
    """Shared by the sessions of one store.

    The writer changes what is kept and lent. Reads are noted by every thread that answers. Holds
    are added to by the writer, and by the finder under `lock`; the writer holds that lock from
    choosing what goes until it is gone: so nothing goes that somebody was just told to be there.
    """

    def __init__(self, *, tracks_reads: bool) -> None:
        self.lock = threading.Lock()
        self.kept = Ids()
        """Of all pins that keep. It may hold more than that for a while, never less."""
        self.pinned = Ids()
        """Of all pins, those that do not keep included."""
        self.lent = Ids()
        """What may be given to others."""
        self.reads: Ids | None = Ids() if tracks_reads else None
        """What was read since the hand passed; None: nobody will ask."""
        self._held = Ids()
        self._holds: set[Hold] = set()

    def track_reads(self, is_wanted: bool) -> None:
        """Note what is read from now on, or no more; for the writer."""
        if is_wanted != (self.reads is not None):
            self.reads = Ids() if is_wanted else None

    def open_hold(self, owner: int) -> Hold:
        """Begin to hold blocks for somebody; the uid is told apart by quotas."""
        hold = Hold(owner)
        with self.lock:
            self._holds.add(hold)
        return hold

    def hold(self, hold: Hold, places: Collection[tuple[int, int]]) -> None:
        """Hold these too: (id, size of the block). The lock is the caller's business.

        Where the hold has ended meanwhile nothing is held.
        """
        if hold not in self._holds:
            return
        large = Ids([block_id for block_id, size in places if size == BlockSize.LARGE])
        small = Ids([block_id for block_id, size in places if size != BlockSize.LARGE])
        for known, new in ((hold.small, small), (hold.large, large)):
            if new:
                known.unite(new)
                self._held.unite(new)

    def end_hold(self, hold: Hold) -> None:
        """Hold these no more; twice is nothing."""
        with self.lock:
            self._holds.discard(hold)
            held = Ids()
            for other in self._holds:
                held.unite(other.small)
                held.unite(other.large)
            self._held = held

    def loose(self) -> Ids:
        """What may go, and some pin has all the same."""
        return self.pinned - self.kept

    def safe(self) -> Ids:
        """All that must not go. Under the lock."""
        return self.kept | self._held

    def holds(self) -> list[Hold]:
        """All that are open."""
        # A copy of the set at once, whatever other threads do.
        return list(self._holds)

    def holds_of(self, owner: int) -> list[Hold]:
        """What somebody has open."""
        return [hold for hold in self.holds() if hold.owner == owner]

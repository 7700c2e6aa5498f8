"""How much one user may pin, and how much room there is for more."""

from __future__ import annotations

from collections import Counter
from typing import Final

from eris.errors import StoreFull
from eris.model import BlockSize
from kapla.sizes import size_text
from kapla.storage.pins import Sizes, no_room
from kapla.storage.sqlite.keeping.accounting import Accounts
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.room import Room
from kapla.storage.sqlite.keeping.state import Hold
from kapla.storage.sqlite.state import Database, SqliteSettings

__all__ = ["LACKING_BYTES", "Quota"]

LACKING_BYTES: Final = 128
"""What the store takes to remember that a pin lacks a block: measured. It counts as pinned."""

# What a block takes in the file, with its row and its place in the index: measured.
_STORED_SMALL: Final = 1120
_STORED_LARGE: Final = 34944
# Of this, its place in the index, which stays for a while when the block goes.
_PLACE: Final = 40
# By how much content is longer stored than it is; of the small ones, which have more beside them.
_OVERHEAD: Final = _STORED_SMALL / 1024
# Pages that are not full, and those of the tree above them.
_SPARE_PAGES: Final = 12
_SPARE_PART: Final = 128
# Of the file, so much at the most is in pages that are half empty, once others need it.
_WASTE_PART: Final = 8
_PRESSING: Final = 0.9
"""Of the cap: where this much may not go, a daemon's store is as good as full."""


def stored(sizes: Sizes) -> int:
    """The bytes that blocks take in the file."""
    return sizes.small * _STORED_SMALL + sizes.large * _STORED_LARGE


class Quota:
    """The limits of one store, against what is pinned in it.

    `accounts` is what counts, and changes when it is counted anew.
    """

    def __init__(self, database: Database, room: Room) -> None:
        self.accounts = Accounts()
        self.lacking: Counter[int] = Counter()
        """How many blocks the pins of each owner lack, as far as that takes room."""
        self._database = database
        self._keeping = database.keeping
        self._room = room

    @property
    def _settings(self) -> SqliteSettings:
        return self._database.settings

    def excess(self, owner: int, more: int = 0) -> StoreFull | None:
        """The error, if an owner's pins and holds, and so many bytes more, are too much."""
        quota = self._settings.pinned_quota
        if quota is None:
            return None
        holds = self._holds_of(owner)
        more += self.lacking[owner] * LACKING_BYTES
        if self.accounts.at_most_pinned_by(owner, holds) + more <= quota:
            return None
        pinned = self.accounts.pinned_by(owner, holds)
        if pinned + more <= quota:
            return None
        return no_room(pinned + self.lacking[owner] * LACKING_BYTES, quota)

    def check(self, owner: int, most: int) -> None:
        """Whether an owner may have one pin more, of `most`, with all that is held now.

        Raises: StoreFull.
        """
        if self.accounts.count_of(owner) >= most:
            raise StoreFull(f"you have {most:,} pins, which is as many as there may be")
        error = self.excess(owner)
        if error is not None:
            raise error

    def hold(self, hold: Hold, places: list[tuple[int, int]]) -> StoreFull | None:
        """Hold these too, (id, size of the block), if its owner may pin so much.

        Where another thread may remove blocks meanwhile, under the lock.
        """
        error = None
        if self._settings.pinned_quota is not None:
            error = self.excess(hold.owner, sum(size for _, size in places))
        if error is not None:
            error = self.excess(hold.owner, self._new_bytes(hold, places))
        if error is None:
            self._keeping.hold(hold, places)
        return error

    def hold_found(self, hold: Hold, places: list[tuple[int, int]]) -> None:
        """As `hold`. Raises: StoreFull."""
        error = self.hold(hold, places)
        if error is not None:
            raise error

    def room(self, owner: int) -> int:
        """How many bytes of content an owner can still pin, for certain if nobody else does."""
        return max(0, min(self._rooms(owner).values()))

    def check_room(self, owner: int, wants: int, advice: str) -> None:
        """`advice`: what else makes room, to end a sentence.

        Raises: StoreFull, if there is not that much room.
        """
        error = self.excess(owner, wants)
        if error is not None:
            raise StoreFull(f"{size_text(wants)} are to come, and {error}")
        rooms = self._rooms(owner)
        limit = min(rooms, key=lambda one: rooms[one])
        if wants > rooms[limit]:
            raise StoreFull(
                f"{size_text(wants)} are to come, and there is room to keep"
                f" {size_text(max(0, rooms[limit]))}: {limit}{advice}"
            )

    def _rooms(self, owner: int) -> dict[str, int]:
        """Bytes of content, by what to do where they are too few."""
        settings = self._settings
        room = self._room.left() + self._evictable()
        room -= room // _SPARE_PART + _SPARE_PAGES * self._room.page
        way = "make room on its disk" if self._room.is_disk_the_limit() else "raise max-size"
        if settings.evicts and settings.max_size is not None:
            way = f"release a pin, or {way}"
        rooms = {way: int(room / _OVERHEAD)}
        if settings.pinned_quota is not None:
            pinned = self.accounts.pinned_by(owner, self._holds_of(owner))
            pinned += self.lacking[owner] * LACKING_BYTES
            rooms["release a pin"] = settings.pinned_quota - pinned
        return rooms

    def is_pressing(self, sizes: Sizes) -> bool:
        """Whether this much leaves less than a tenth of the store's largest size."""
        max_size = self._settings.max_size
        return max_size is not None and stored(sizes) > _PRESSING * max_size

    def _new_bytes(self, hold: Hold, places: list[tuple[int, int]]) -> int:
        """The bytes of those that are not counted yet for the owner of a hold."""
        known = self.accounts.pinned_ids_of(hold.owner)
        for small, large in self._holds_of(hold.owner):
            known = known | small | large
        return sum(size for block_id, size in dict(places).items() if block_id not in known)

    def _holds_of(self, owner: int) -> list[tuple[Ids, Ids]]:
        return _sets(self._keeping.holds_of(owner))

    def _evictable(self) -> int:
        """Bytes of the file that would make room for others."""
        totals = self._database.totals
        if totals is None or not self._settings.evicts:
            return 0
        # Beside blocks there is what is known of pins, what is left of blocks that went, and pages
        # that are half empty; these are emptied where they are many: see `compaction`.
        every = stored(Sizes(totals[BlockSize.SMALL], totals[BlockSize.LARGE]))
        used = self._room.file_bytes() - self._room.free_bytes()
        known = self.lacking.total() * LACKING_BYTES
        waste = min(max(0, used - every), known + used // _WASTE_PART)
        kept = self.accounts.kept_sizes(_sets(self._keeping.holds()))
        left_behind = max(0, sum(totals.values()) - sum(kept)) * _PLACE
        return max(0, used - waste - stored(kept) - left_behind)


def _sets(holds: list[Hold]) -> list[tuple[Ids, Ids]]:
    return [(hold.small, hold.large) for hold in holds]

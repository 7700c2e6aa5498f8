"""How much one user may pin, and how much room there is for more."""

from __future__ import annotations

import os
from typing import Final

from eris.errors import StoreFull
from kapla.storage.keeping.accounting import Accounts
from kapla.storage.keeping.ids import Ids
from kapla.storage.keeping.pin import Sizes, no_room, size_text
from kapla.storage.keeping.state import Hold, Keeping
from kapla.storage.state import SqliteSettings

__all__ = ["Quota"]

# What a block takes in the file, with its row and its place in the index: measured.
_STORED_SMALL: Final = 1120
_STORED_LARGE: Final = 34944
# By how much content is longer stored than it is; of the small ones, which have more beside them.
_OVERHEAD: Final = _STORED_SMALL / 1024
_PRESSING: Final = 0.9
"""Of the cap: where this much may not go, a daemon's store is as good as full."""


def stored(sizes: Sizes) -> int:
    """The bytes that blocks take in the file."""
    return sizes.small * _STORED_SMALL + sizes.large * _STORED_LARGE


class Quota:
    """The limits of one store, against what is pinned in it.

    `accounts` is what counts, and changes when it is counted anew.
    """

    def __init__(self, settings: SqliteSettings, keeping: Keeping) -> None:
        self.accounts = Accounts()
        self._settings = settings
        self._keeping = keeping

    def excess(self, owner: int, more: int = 0) -> StoreFull | None:
        """The error, if an owner's pins and holds, and so many bytes more, are too much."""
        quota = self._settings.pinned_quota
        if quota is None:
            return None
        holds = self._holds_of(owner)
        if self.accounts.at_most_pinned_by(owner, holds) + more <= quota:
            return None
        pinned = self.accounts.pinned_by(owner, holds)
        return no_room(pinned, quota) if pinned + more > quota else None

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
        rooms = {"make room on its disk": self._free_disk()}
        if settings.pinned_quota is not None:
            pinned = self.accounts.pinned_by(owner, self._holds_of(owner))
            rooms["release a pin"] = settings.pinned_quota - pinned
        if settings.max_size is not None:
            way = "release a pin, or raise max-size" if settings.evicts else "raise max-size"
            rooms[way] = int((settings.max_size - self._taken()) / _OVERHEAD)
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

    def _kept(self) -> int:
        return stored(self.accounts.kept_sizes(_sets(self._keeping.holds())))

    def _taken(self) -> int:
        """Bytes of the file that do not make room for others."""
        return self._kept() if self._settings.evicts else self._file_bytes()

    def _file_bytes(self) -> int:
        try:
            return os.stat(self._settings.path).st_size
        except OSError:
            return 0

    def _free_disk(self) -> int:
        try:
            disk = os.statvfs(self._settings.path)
        except OSError:
            return 1 << 62
        # Where others have filled the disk, what goes makes room all the same.
        free = max(0, disk.f_bavail * disk.f_frsize - (self._settings.min_free or 0))
        return free + max(0, self._file_bytes() - self._taken()) if self._settings.evicts else free


def _sets(holds: list[Hold]) -> list[tuple[Ids, Ids]]:
    return [(hold.small, hold.large) for hold in holds]

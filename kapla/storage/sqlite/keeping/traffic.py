"""What becomes of pins as blocks come, go, or have other ids."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from eris.model import BlockSize, Reference
from kapla.errors import StorageError
from kapla.storage.pins import Sizes
from kapla.storage.sqlite.damage import is_damage
from kapla.storage.sqlite.keeping.books import PinBooks
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin

__all__ = ["PinTraffic"]


class PinTraffic(PinBooks):
    """The pins, as those see them who add, remove and move blocks; for the writer's thread."""

    def arrive(
        self, places: Mapping[Reference, tuple[int, int]], moves: Mapping[int, tuple[int, int]]
    ) -> Callable[[], None]:
        """These are there, (id, size): who lacks them gets them, inside this transaction.

        `moves`: which of them take the places of damaged ones, by the ids of these. Returns what is
        to be done once it is committed. Raises: sqlite3.Error; then it works when tried again.
        """
        arrivals, is_moved = None, False
        try:
            if self.is_wanting:
                arrivals = self.wants.arrive(places)
            if moves:
                is_moved = self.move(moves)
        except (sqlite3.Error, StorageError) as error:
            if isinstance(error, StorageError) or is_damage(error):
                self.tell_damage(error)
            if isinstance(error, sqlite3.Error):
                raise

        def after() -> None:
            if arrivals is not None:
                self.wants.apply(arrivals)
            if is_moved:
                self.moved(moves)

        return after

    @property
    def is_wanting(self) -> bool:
        """Whether something that comes may be lacking to a pin."""
        return bool(self.wants) and not self._is_damaged

    def lost(self, known: Mapping[int, bytes | None], sizes: Mapping[int, int]) -> None:
        """Blocks are gone, damaged or deleted: the pins that hold them lack them from now on.

        `known`: by id, the reference, or the first 8 bytes of it, or None where not even that can
        be read: then the pin lacks it for ever, until it is made anew. `sizes`: of those for which
        it is known. To be called inside the transaction in which the rows go, at its end.
        Raises: sqlite3.Error, StorageError.
        """
        gone = Ids(known) & self.quota.accounts.all
        if not gone:
            return
        losses = []
        for pin in self._rows.all():
            mine = pin.ids & gone
            if mine:
                self._lose(pin, mine, sizes)
                keys = [_key(block_id, known[block_id]) for block_id in mine]
                losses.append((pin, keys, self.wants.want_again(pin, keys)))
        # All that can fail is done.
        for pin, keys, added in losses:
            self.wants.lost(pin, keys, added)
        # The unions are too large now, and stay so until it is known that this was committed.
        self._is_doubtful = True

    def move(self, places: Mapping[int, tuple[int, int]]) -> bool:
        """Blocks have other ids now: (id, size) by the former one. Who had that has this.

        To be called inside the transaction in which they move; returns whether `moved` is to be
        called once it is committed. Raises: sqlite3.Error, StorageError.
        """
        former = Ids(places) & self.quota.accounts.all
        if former:
            for pin in self._rows.all():
                mine = pin.ids & former
                if mine:
                    pin.small.subtract(mine)
                    pin.large.subtract(mine)
                    pin.take([places[block_id] for block_id in mine])
                    self._rows.refill(pin)
        return bool(former or self._keeping.holds() or self.lent_cache.has_any(places))

    def moved(self, places: Mapping[int, tuple[int, int]], *, is_locked: bool = False) -> None:
        """What `move` was told of is committed."""
        holds = self._keeping.holds()
        with nullcontext() if is_locked else self._keeping.lock:
            for hold in holds:
                mine = (hold.small | hold.large) & Ids(places)
                if mine:
                    self._keeping.hold(hold, [places[block_id] for block_id in mine])
                    hold.small.subtract(mine)
                    hold.large.subtract(mine)
        self.lent_cache.moved((place[0], block_id) for block_id, place in places.items())
        self.wants.moved(places)
        if Ids(places) & self.quota.accounts.all:
            self._follow(places)

    def _follow(self, places: Mapping[int, tuple[int, int]]) -> None:
        """Count all anew; until that succeeds, nothing goes that is kept."""
        keeping, former = self._keeping, Ids(places)
        for union in (keeping.kept, keeping.pinned, keeping.lent):
            union.add([places[block_id][0] for block_id in union & former])
        self._is_doubtful = True
        try:
            self._load()
        except sqlite3.Error as error:
            self._complaints.tell(f"The pins cannot be counted anew, which is tried again: {error}")

    def _lose(self, pin: Pin, mine: Ids, sizes: Mapping[int, int]) -> None:
        pin.small.subtract(mine)
        pin.large.subtract(mine)
        if pin.sums is not None:
            large = sum(sizes.get(block_id) == BlockSize.LARGE for block_id in mine)
            pin.sums = Sizes(
                max(0, pin.sums.small - len(mine) + large), max(0, pin.sums.large - large)
            )
            if not pin.ids:
                # Whatever was damaged when they were counted: there is none.
                pin.sums, pin.is_counted = Sizes(), True
        self._rows.refill(pin)


def _key(block_id: int, known: bytes | None) -> bytes:
    """What stands for a block that is lacking; where nothing is known, something unlike all."""
    return known or b"?" + (block_id & ((1 << 64) - 1)).to_bytes(8, "big")

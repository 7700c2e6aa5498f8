"""What all pins hold together: as unions, from which everything is counted.

The pins' own bitmaps stay on disk; here is what is in any of them, what is in more than one, and
what each owner has. A pin that is added is counted exactly. When one is released, what only it held
is gone at once; what others held too is counted as if it were still there, and `is_stale` tells so,
until somebody adds all pins to new accounts. Sets that are too large do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kapla.storage.pins import Sizes
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin

__all__ = ["Accounts"]


class _Account:
    """What one owner has pinned."""

    __slots__ = ("large", "pins", "small")

    def __init__(self) -> None:
        self.small = Ids()
        self.large = Ids()
        self.pins = 0


@dataclass(slots=True)
class _Sum:
    """A pin whose sizes are known in sum only."""

    name: str
    ids: Ids
    sizes: Sizes
    keep: bool


class Accounts:
    """The unions of all pins."""

    def __init__(self, cached: Ids | None = None) -> None:
        """`cached`: what is lent without a pin, as it changes."""
        self._cached = Ids() if cached is None else cached
        self.kept = Ids()
        """Of the pins that keep."""
        self.lent = self._cached.copy()
        """Of the pins that lend, and what is lent without one."""
        self.all = Ids()
        self.is_stale = False
        """Whether some of it may be too large."""
        self._shared = Ids()
        # Of pins whose blocks have known sizes.
        self._small = Ids()
        self._large = Ids()
        self._owners: dict[int, _Account] = {}
        # Of pins over all that there was.
        self._sums: dict[int, _Sum] = {}

    def add(self, pin: Pin) -> None:
        """Count a pin that is not counted yet."""
        ids = pin.ids
        self._shared.unite(self.all & ids)
        self.all.unite(ids)
        if pin.keep:
            self.kept.unite(ids)
        if pin.lend:
            self.lent.unite(ids)
        if pin.sums is not None:
            self._sums[pin.id] = _Sum(pin.name, ids, pin.sums, pin.keep)
            return
        self._small.unite(pin.small)
        self._large.unite(pin.large)
        account = self._owners.setdefault(pin.owner, _Account())
        account.small.unite(pin.small)
        account.large.unite(pin.large)
        account.pins += 1

    def remove(self, pin: Pin) -> None:
        """Count a pin no more."""
        own = pin.ids - self._shared
        self.is_stale |= len(own) < len(pin.ids)
        for union in (self.all, self.kept, self._small, self._large):
            union.subtract(own)
        self.lent.subtract(own - self._cached)
        self._sums.pop(pin.id, None)
        account = self._owners.get(pin.owner)
        if pin.sums is None and account is not None:
            account.small.subtract(own)
            account.large.subtract(own)
            account.pins -= 1
            if not account.pins:
                del self._owners[pin.owner]

    def own(self, pin: Pin) -> Sizes:
        """How many blocks only this pin has.

        Where two overlap whose sizes are known in sum only, the sizes of the overlap are a guess.
        """
        if pin.sums is None:
            shared = self._shared
            return Sizes(
                len(pin.small) - pin.small.overlap(shared),
                len(pin.large) - pin.large.overlap(shared),
            )
        ids = pin.ids
        rest = self._unsized(ids, pin.sums)
        others = Ids()
        for number, other in self._sums.items():
            if number != pin.id:
                others.unite(other.ids)
        both = len((ids & others) - self._small - self._large)
        large = max(0, rest.large - both)
        return Sizes(max(0, rest.small - (both - (rest.large - large))), large)

    def count_of(self, owner: int) -> int:
        """How many pins somebody has."""
        account = self._owners.get(owner)
        return account.pins if account else 0

    @property
    def count(self) -> int:
        """How many pins there are."""
        return len(self._sums) + sum(account.pins for account in self._owners.values())

    def pinned_by(self, owner: int, holds: Iterable[tuple[Ids, Ids]] = ()) -> int:
        """The bytes that an owner's pins hold, together with these (small, large) of open ones."""
        account = self._owners.get(owner, _NOTHING)
        small, large = account.small, account.large
        for more_small, more_large in holds:
            small, large = small | more_small, large | more_large
        return Sizes(len(small), len(large)).bytes

    def pinned_ids_of(self, owner: int) -> Ids:
        """All that an owner's pins hold."""
        account = self._owners.get(owner, _NOTHING)
        return account.small | account.large

    def at_most_pinned_by(self, owner: int, holds: Iterable[tuple[Ids, Ids]] = ()) -> int:
        """Not less than `pinned_by`, and quickly known."""
        account = self._owners.get(owner, _NOTHING)
        sets = [(account.small, account.large), *holds]
        return sum(Sizes(len(small), len(large)).bytes for small, large in sets)

    def kept_sizes(self, held: Iterable[tuple[Ids, Ids]] = ()) -> Sizes:
        """How many blocks are kept by pins, or held by open ones; at the most."""
        small, large = self._small & self.kept, self._large & self.kept
        for more_small, more_large in held:
            small, large = small | more_small, large | more_large
        sizes = Sizes(len(small), len(large))
        for pin in self._sums.values():
            if pin.keep:
                sizes = Sizes(
                    sizes.small + max(0, pin.sizes.small - pin.ids.overlap(small)),
                    sizes.large + max(0, pin.sizes.large - pin.ids.overlap(large)),
                )
        return sizes

    def kept_by_sums(self) -> dict[str, Sizes]:
        """What pins keep that nobody made, and no other pin does; by their names."""
        return {
            pin.name: self._unsized(pin.ids, pin.sizes) for pin in self._sums.values() if pin.keep
        }

    def switch(self, before: Pin, after: Pin) -> None:
        """The switches of a pin are others."""
        ids = after.ids
        own = ids - self._shared
        if before.keep and not after.keep:
            self.kept.subtract(own)
        if before.lend and not after.lend:
            self.lent.subtract(own - self._cached)
        if after.keep:
            self.kept.unite(ids)
        if after.lend:
            self.lent.unite(ids)
        if after.id in self._sums:
            self._sums[after.id].keep = after.keep
        # Others may keep or lend what is shared, or not.
        self.is_stale |= len(own) < len(ids)

    def grow(self, pin: Pin, arrived: list[tuple[int, int]]) -> None:
        """A pin that is counted has got these too: (id, size of the block)."""
        more = Pin(pin.id, pin.owner, pin.name, None, pin.keep, pin.lend, 0)
        more.take(arrived)
        known = self._sums.get(pin.id)
        if known is None:
            self.add(more)
            self._owners[pin.owner].pins -= 1
            return
        more.sums = Sizes(known.sizes.small + len(more.small), known.sizes.large + len(more.large))
        ids = known.ids | more.ids
        self.add(more)
        self._sums[pin.id].ids = ids

    def _unsized(self, ids: Ids, sums: Sizes) -> Sizes:
        """What of a pin, whose sizes are known in sum, no pin with known sizes has."""
        return Sizes(
            max(0, sums.small - ids.overlap(self._small)),
            max(0, sums.large - ids.overlap(self._large)),
        )


_NOTHING = _Account()

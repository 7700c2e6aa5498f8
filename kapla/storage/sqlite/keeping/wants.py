"""What pins lack, and what becomes of it as blocks arrive.

A block that comes goes into every pin that lacks it, in the transaction that keeps it: as a row of
`arrivals`, which the upkeep folds into the pin's bitmaps later; or into the hold, if the pin is
still open. While nothing is lacking, this costs a look at an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from eris.errors import StoreFull
from eris.model import Reference
from kapla.storage.sqlite.keeping.pin import Pin
from kapla.storage.sqlite.keeping.quota import LACKING_BYTES, Quota
from kapla.storage.sqlite.keeping.rows import PinRows, Wanting
from kapla.storage.sqlite.keeping.state import Hold, Keeping
from kapla.storage.sqlite.keeping.waiting import Waiting

__all__ = ["MOST_MISSING", "Arrivals", "Lacking", "Wants"]

_WHOLE: Final = 32
_PREFIX: Final = 8
_SLICE: Final = 4096
_NOBODY: Final = -1
# What pins get with one transaction. Thousands may lack the same block, whose PUT waits for it.
_AT_ONCE: Final = 2048
MOST_MISSING: Final = 4 * 1024 * 1024
"""That the pins of one user may lack together: each takes some 100 bytes of the store."""


@dataclass(slots=True)
class Lacking:
    """How much one pin lacks: a closed one, or one that is still open and has a hold."""

    owner: int
    pin: Pin | None = None
    hold: Hold | None = None
    missing: int = 0


@dataclass(slots=True)
class Arrivals:
    """What came for whom, to be counted once it is committed."""

    closed: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    held: list[tuple[Hold, tuple[int, int]]] = field(default_factory=list)
    found: list[Wanting] = field(default_factory=list)
    waiting: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """What some pins may lack still, as so many do."""
    orphans: list[int] = field(default_factory=list)
    """The pins that are gone, for each of what they lacked that came."""
    told: tuple[bytes, int | None] | None = None
    """Of which of these, up to which pin; None: all."""
    bytes: dict[int, int] = field(default_factory=dict)
    """What came for closed pins, by their owner."""


class Wants:
    """What the pins of a store lack; for the writer."""

    def __init__(self, rows: PinRows, quota: Quota, keeping: Keeping) -> None:
        self._rows = rows
        self._quota = quota
        self._keeping = keeping
        self._lacking: dict[int, Lacking] = {}
        self._arrived: dict[int, int] = {}
        # With their owners: what they lacked takes room until it is forgotten.
        self._gone: dict[int, int] = {}
        self._has_unnamed = False
        self._waiting = Waiting(keeping)

    def load(self, pins: Mapping[int, Pin]) -> None:
        """Begin with what stands in the tables. Raises: sqlite3.Error."""
        opened = {n: lacking for n, lacking in self._lacking.items() if lacking.hold is not None}
        gone, self._gone = self._gone, {}
        self._lacking.clear()
        self._quota.lacking.clear()
        for number, missing in self._rows.missing().items():
            pin = pins.get(number)
            if number in opened:
                self._lacking[number] = opened[number]
                opened[number].missing = missing
            elif pin is None:
                # It was open when the daemon ended, or went not long before.
                self._gone[number] = gone.get(number, _NOBODY)
            else:
                self._lacking[number] = Lacking(pin.owner, _without_blocks(pin), None, missing)
            self._quota.lacking[self._owner(number)] += missing
        self._arrived = self._rows.arriving()
        self._has_unnamed = self._rows.lacks_unnamed()

    def __bool__(self) -> bool:
        return bool(self._lacking)

    def missing(self, number: int) -> int:
        """How much a pin lacks."""
        lacking = self._lacking.get(number)
        return lacking.missing if lacking else 0

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> int:
        """An open pin lacks these; returns how many more than before.

        Inside a transaction; `wanted` is to be told when it is committed. Raises: StoreFull, if it
        is too much; sqlite3.Error.
        """
        known = self._quota.lacking[hold.owner]
        error = self._quota.excess(hold.owner, len(references) * LACKING_BYTES)
        if error is not None:
            raise error
        if known + len(references) > MOST_MISSING:
            raise StoreFull(
                f"your pins lack {known:,} blocks already, of {MOST_MISSING:,} that they may lack"
            )
        return self._rows.want(Wanting(name, number) for name in references)

    def wanted(self, number: int, hold: Hold, added: int) -> None:
        """So many more are known to be lacking."""
        if added:
            self._lacking.setdefault(number, Lacking(hold.owner, hold=hold)).missing += added
            self._quota.lacking[hold.owner] += added

    def want_again(self, pin: Pin, keys: Sequence[bytes]) -> int:
        """A closed pin has lost these; returns how many, for `lost` when all is done.

        Inside a transaction. Raises: sqlite3.Error.
        """
        return self._rows.want(Wanting(key, pin.id) for key in keys)

    def lost(self, pin: Pin, keys: Sequence[bytes], added: int) -> None:
        """What `want_again` wrote is so."""
        lacking = self._lacking.setdefault(pin.id, Lacking(pin.owner, _without_blocks(pin)))
        lacking.missing += added
        self._quota.lacking[pin.owner] += added
        self._arrived.pop(pin.id, None)
        self._has_unnamed |= any(len(key) < _WHOLE for key in keys)

    def close(self, number: int, pin: Pin) -> None:
        """An open pin is a closed one now."""
        lacking = self._lacking.get(number)
        if lacking is not None:
            lacking.pin, lacking.hold = _without_blocks(pin), None

    def drop(self, number: int) -> None:
        """A pin is gone."""
        self._arrived.pop(number, None)
        lacking = self._lacking.pop(number, None)
        if lacking is not None:
            self._gone[number] = lacking.owner

    def switched(self, pin: Pin) -> None:
        """The switches of a pin are others."""
        lacking = self._lacking.get(pin.id)
        if lacking is not None:
            lacking.pin = _without_blocks(pin)

    def arrive(self, blocks: Mapping[Reference, tuple[int, int]]) -> Arrivals:
        """These are there, as (id, size): whoever lacks them gets them, in this transaction.

        Raises: sqlite3.Error.
        """
        keys: list[bytes] = list(blocks)
        named: dict[bytes, tuple[int, int]] = dict(blocks.items())
        if self._has_unnamed:
            named |= {name[:_PREFIX]: place for name, place in blocks.items()}
            keys = list(named)
        wantings = self._rows.wanting(keys, _AT_ONCE)
        arrivals = self._give(wantings, named)
        if len(wantings) >= _AT_ONCE:
            arrivals.waiting = {key: named[key] for key in keys}
        return arrivals

    def arrive_late(self) -> Arrivals:
        """More of those that lack what is there get it. Inside a transaction.

        Raises: sqlite3.Error.
        """
        key, place, after = self._waiting.first()
        wantings = [] if place is None else self._rows.wanting_after(key, after, _AT_ONCE)
        arrivals = self._give(wantings, {} if place is None else {key: place})
        arrivals.told = (key, wantings[-1].pin if len(wantings) == _AT_ONCE else None)
        return arrivals

    def arrive_for(self, number: int) -> Arrivals:
        """One pin gets all at once that is there and that it lacks. Inside a transaction.

        Raises: sqlite3.Error.
        """
        waiting = self._waiting.places()
        wantings = [
            wanting
            for key in waiting
            for wanting in self._rows.wanting_after(key, number - 1, 1)
            if wanting.pin == number
        ]
        return self._give(wantings, waiting)

    def _give(
        self, wantings: Sequence[Wanting], named: Mapping[bytes, tuple[int, int]]
    ) -> Arrivals:
        arrivals, orphans = Arrivals(), list[Wanting]()
        for wanting in wantings:
            lacking = self._lacking.get(wanting.pin)
            if lacking is None:
                orphans.append(wanting)
            elif lacking.hold is not None:
                arrivals.held.append((lacking.hold, named[wanting.key]))
                arrivals.found.append(wanting)
            elif self._has_room(lacking, arrivals, named[wanting.key]):
                arrivals.closed.setdefault(wanting.pin, []).append(named[wanting.key])
                arrivals.found.append(wanting)
        self._rows.unwant([*arrivals.found, *orphans])
        arrivals.orphans = [wanting.pin for wanting in orphans]
        self._rows.arrive(
            (number, *place) for number, places in arrivals.closed.items() for place in places
        )
        return arrivals

    def apply(self, arrivals: Arrivals) -> None:
        """What came is committed."""
        self._waiting.add(arrivals.waiting)
        if arrivals.told is not None:
            self._waiting.told(*arrivals.told)
        with self._keeping.lock:
            for hold, place in arrivals.held:
                self._keeping.hold(hold, [place])
        for number, places in arrivals.closed.items():
            pin = self._lacking[number].pin
            assert pin is not None
            self._quota.accounts.grow(pin, places)
            self._arrived[number] = self._arrived.get(number, 0) + len(places)
        for number in arrivals.orphans:
            self._quota.lacking[self._owner(number)] -= 1
        for wanting in arrivals.found:
            lacking = self._lacking[wanting.pin]
            self._quota.lacking[lacking.owner] -= 1
            lacking.missing -= 1
            if lacking.missing <= 0:
                del self._lacking[wanting.pin]

    def moved(self, places: Mapping[int, tuple[int, int]]) -> None:
        """Blocks have other ids now: (id, size) by the former one."""
        self._waiting.moved(places)

    @property
    def has_late(self) -> bool:
        """Whether something is there that pins may lack still."""
        return bool(self._waiting)

    def next_to_fold(self) -> int | None:
        """The number of a pin for which something has come."""
        return next(iter(self._arrived), None)

    def folded(self, number: int) -> None:
        """What has come for a pin stands in its bitmaps."""
        self._arrived.pop(number, None)

    @property
    def has_gone(self) -> bool:
        """Whether there is something left of pins that are gone."""
        return bool(self._gone)

    def forget_some(self) -> Callable[[], None]:
        """Some of what pins lack that are gone. Inside a transaction. Raises: sqlite3.Error.

        Returns what is to be done once it is committed.
        """
        number, owner = next(iter(self._gone.items()))
        forgotten = self._rows.forget_wanted(number, _SLICE)

        def after() -> None:
            self._quota.lacking[owner] -= forgotten
            if forgotten < _SLICE:
                del self._gone[number]

        return after

    def _owner(self, number: int) -> int:
        lacking = self._lacking.get(number)
        return self._gone.get(number, _NOBODY) if lacking is None else lacking.owner

    def _has_room(self, lacking: Lacking, arrivals: Arrivals, place: tuple[int, int]) -> bool:
        """Whether the owner may have this block pinned; else the pin goes on to lack it."""
        assert lacking.pin is not None
        if lacking.pin.sums is None:
            coming = arrivals.bytes.get(lacking.owner, 0) + place[1]
            if self._quota.excess(lacking.owner, coming) is not None:
                return False
            arrivals.bytes[lacking.owner] = coming
        return True


def _without_blocks(pin: Pin) -> Pin:
    return Pin(
        pin.id, pin.owner, pin.name, pin.root, pin.keep, pin.lend, pin.created, sums=pin.sums
    )

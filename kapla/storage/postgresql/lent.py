"""Which blocks may be lent, for listeners that lend: known in memory, and looked at every second.

What is not lent must not be told from what is not there, not even by how long the answer takes: so
nobody asks the database whether a block is lent. Here stands of each reference that is lent a hash
of 64 bits, which Python makes with a secret of its process: nobody can make a block whose hash is
that of another. The sets are sorted numbers in arrays, and a name takes as long whether it is in
them or not.

A pin that comes to be lent is added; where one goes all is read anew, and so when a generation
begins or goes. What is lent without a pin is found by the transactions that wrote it.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from eris.model import Reference
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import checked, split
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["KnownLent", "Lent"]

_FRESH_S: Final = 1.0
_PARTS: Final = 16
_RECENT: Final = 1 << 16
_PINS_AT_ONCE: Final = 1000
_STATE: Final = """
SELECT lent_version, epoch, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
FROM state
"""
_PINS: Final = "SELECT number FROM pins WHERE lend AND name IS NOT NULL"
_OF_PINS: Final = "SELECT names FROM pin_runs WHERE pin IN ({})"
_WITHOUT: Final = "SELECT names FROM lent_runs"
# Of a store that came out of a dump the numbers of transactions are another server's: those to come
# are read in the beginning, and not again and again.
_NEW_WITHOUT: Final = f"{_WITHOUT} WHERE written >= %d AND written < %d"


def _parts() -> list[array[int]]:
    return [array("q") for _ in range(_PARTS)]


@dataclass(slots=True)
class KnownLent:
    """What is known to be lent; the sessions of a store may share it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    looked_at: float | None = None
    version: tuple[int, int, bool] | None = None
    pins: set[int] = field(default_factory=set)
    seen: int = 0
    """What earlier transactions lent without a pin is known."""
    sorted: list[array[int]] = field(default_factory=_parts)
    recent: set[int] = field(default_factory=set)
    """What was added since these were sorted."""
    coming: list[array[int]] = field(default_factory=_parts)
    """What is being read, and is in neither of these yet."""

    def has(self, number: int) -> bool:
        """Whether this is the hash of a reference that is lent."""
        part = self.sorted[number % _PARTS]
        place = bisect_left(part, number)
        # Both are looked up, whatever the first one says.
        return (place < len(part) and part[place] == number) | (number in self.recent)

    def add(self, names: Iterable[bytes]) -> None:
        """These are lent, too, once `settle` is called."""
        coming = self.coming
        for number in map(hash, names):
            coming[number % _PARTS].append(number)

    def settle(self) -> None:
        """What was added is lent from now on."""
        count = sum(map(len, self.coming)) + len(self.recent)
        if count <= self._spare:
            self.recent.update(*self.coming)
        else:
            self._sort()
        self.coming = _parts()

    @property
    def _spare(self) -> int:
        """How many need not be sorted in."""
        return _RECENT + sum(map(len, self.sorted)) // 8

    def look_soon(self) -> None:
        """This process has changed what is lent: it is looked at when somebody asks."""
        self.looked_at = None

    def clear(self) -> None:
        """Nothing is known."""
        self.sorted, self.coming = _parts(), _parts()
        self.recent, self.pins, self.seen = set(), set(), 0

    def _sort(self) -> None:
        for number in self.recent:
            self.coming[number % _PARTS].append(number)
        self.recent = set()
        for place, part in enumerate(self.coming):
            # Some at a time: so numbers take much more room than in an array.
            self.sorted[place] = array("q", sorted({*self.sorted[place], *part}))


class Lent:
    """Tells what may be lent, for one session. Where nobody asks nothing is read."""

    def __init__(self, session: Session, known: KnownLent, lends_cache: Callable[[], bool]) -> None:
        """`known`: what other sessions know, too. `lends_cache`: whether more is lent."""
        self._session, self._known, self._lends_cache = session, known, lends_cache
        self._connection: object = None

    def among(self, names: Sequence[Reference]) -> list[Reference]:
        """Those that may be lent if they are there, in the order in which they are given.

        What this process changed shows at once, all else within a second or two.
        Raises: StoreUnavailable, StorageError.
        """
        known = self._known
        with known.lock:
            now = time.monotonic()
            if known.looked_at is None or now - known.looked_at > _FRESH_S:
                # Before it is looked at: what changes meanwhile is seen the next time.
                known.looked_at = now
                self._session.retried(self._look)
            lent = [known.has(hash(name)) for name in names]
        return [name for name, is_lent in zip(names, lent, strict=True) if is_lent]

    def _look(self, cursor: Cursor) -> None:
        known = self._known
        if self._connection not in (None, cursor.connection):
            # Where a standby took over, other transactions and pins may have the same numbers.
            known.version = None
            known.clear()
        self._connection = cursor.connection
        row = cursor.execute(_STATE).fetchone()
        assert row is not None
        lends_cache = self._lends_cache()
        version = (row[0], row[1], lends_cache)
        if version != known.version:
            self._look_at_pins(cursor, is_same_rest=version[1:] == (known.version or ())[1:])
        if lends_cache:
            if known.seen:
                self._add(cursor, _NEW_WITHOUT, known.seen, row[3])
            else:
                self._add(cursor, _WITHOUT)
            known.seen = row[2]
        known.settle()
        # At the end: what failed before is done again.
        known.version = version

    def _look_at_pins(self, cursor: Cursor, *, is_same_rest: bool) -> None:
        known = self._known
        pins = {row[0] for row in cursor.execute(_PINS).fetchall()}
        if not is_same_rest or not known.pins <= pins:
            known.version = None
            known.clear()
        new = sorted(pins - known.pins)
        for start in range(0, len(new), _PINS_AT_ONCE):
            numbers = new[start : start + _PINS_AT_ONCE]
            self._add(cursor, _OF_PINS.format(",".join(map(str, numbers))))
            known.pins.update(numbers)

    def _add(self, cursor: Cursor, query: str, *numbers: int) -> None:
        for (run,) in rows_of(cursor, query, *numbers):
            self._known.add(split(checked(run)))

"""How many blocks of each pin no other pin has, and how many there are in all pins together.

All closed pins are counted at once, by the first 64 bits of references. That is exact as long as
they have a million references together. Of more only the lowest ones are looked at, a quarter of a
million, and what these tell is told of all: references are hashes, so a range of them is as good as
a sample. Many are counted again only after twenty times as long as it took; until then a pin is
told as it was counted last, and one that was not counted yet as if it shared nothing.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from eris.model import BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.port import Kept
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import between, checked, prefixes
from kapla.storage.postgresql.session import Cursor

__all__ = ["EXACT", "Sharing"]

EXACT: Final = 1 << 20
"""References that are all looked at."""

_SAMPLE: Final = 1 << 18
"""References that are looked at where there are more: some 0.3 s, while PUTs wait."""

_FEW: Final = 1 << 16
"""References that are counted at any time."""

_REST: Final = 20

_MANY_PINS: Final = 1000
"""Of so many it takes some time to see whether they are others than before."""

# Numbers are never given twice: two different sets of pins do not agree in all of this.
_STATE: Final = """
SELECT count(*), coalesce(sum(number), 0)::text, coalesce(sum(number::numeric * number), 0)::text,
    coalesce(sum(small + large), 0)::bigint,
    coalesce(sum(number * (keep::int + 2 * lend::int)), 0)::text
FROM pins WHERE name IS NOT NULL
"""
_NUMBERS: Final = "SELECT number, keep, lend FROM pins WHERE name IS NOT NULL"
# The first 56 bits of a reference, as a number.
_BITS: Final = "('x' || left(encode({}, 'hex'), 14))::bit(56)::bigint"
# Of each run what is below a limit, and some more by chance: most have much that is not, which the
# server need not read.
_NAMES: Final = f"""
SELECT pin, size, substr(names, 1, 32 * least(count,
    8 + ceil(1.5::float8 * count * (%d - low) / greatest(high - low, 1)))::integer)
FROM (
    SELECT pin, size, names, octet_length(names) / 32 AS count,
        {_BITS.format("first")} AS low, {_BITS.format("last")} AS high
    FROM pin_runs WHERE NOT lacking AND pin IN (SELECT number FROM pins WHERE name IS NOT NULL)
) AS runs WHERE low < %d
"""
_ALL_NAMES: Final = """
SELECT pin, size, names FROM pin_runs
WHERE NOT lacking AND pin IN (SELECT number FROM pins WHERE name IS NOT NULL)
"""


@dataclass(slots=True)
class _Counted:
    """What the sample tells: of each pin and size the blocks, and those that are its own."""

    all: dict[tuple[int, int], int] = field(default_factory=dict)
    own: dict[tuple[int, int], int] = field(default_factory=dict)
    kept: Kept = field(default_factory=lambda: Kept(0, 0, 0))


class Sharing:
    """What the closed pins of a store share, as it was counted last; from any thread."""

    def __init__(self, exact: int = EXACT) -> None:
        """`exact`: as many references as are all looked at."""
        self._exact, self._sample = exact, min(exact, _SAMPLE)
        self._state: tuple[object, ...] | None = None
        self._counted = _Counted()
        self._rest_until = 0.0
        self._lock = threading.Lock()

    def look(self, cursor: Cursor) -> None:
        """Count, if the pins are others than before, and it is time. Raises: psycopg.Error."""
        with self._lock:
            self._look(cursor)

    def _look(self, cursor: Cursor) -> None:
        began = time.monotonic()
        if began < self._rest_until:
            return
        state = cursor.execute(_STATE).fetchone()
        assert state is not None
        if state != self._state:
            self._counted = self._count(cursor, int(state[3]))
            self._state = state
        if state[0] > _MANY_PINS or state[3] > _FEW:
            ended = time.monotonic()
            self._rest_until = ended + _REST * (ended - began)

    def own(self, number: int, sizes: Sizes) -> Sizes:
        """Of the blocks of a pin, those that no other pin has."""
        return Sizes(
            self._own(number, BlockSize.SMALL, sizes.small),
            self._own(number, BlockSize.LARGE, sizes.large),
        )

    @property
    def kept(self) -> Kept:
        """How many blocks closed pins have, keep and lend."""
        return self._counted.kept

    def _own(self, number: int, size: int, count: int) -> int:
        among = self._counted.all.get((number, size), 0)
        if not among:
            return count
        return min(count, round(count * self._counted.own[number, size] / among))

    def _count(self, cursor: Cursor, total: int) -> _Counted:
        switches = {
            number: (keep, lend) for number, keep, lend in cursor.execute(_NUMBERS).fetchall()
        }
        found = self._gather(cursor, total)
        shared = _shared(found.values())
        counted = _Counted()
        for key, names in found.items():
            counted.all[key] = len(names)
            counted.own[key] = len(names) - sum(map(shared.__contains__, names))
        part = total / self._sample if total > self._exact else 1.0
        counted.kept = Kept(
            _distinct(found, part, lambda _: True),
            _distinct(found, part, lambda pin: switches.get(pin, (False, False))[0]),
            _distinct(found, part, lambda pin: switches.get(pin, (False, False))[1]),
        )
        return counted

    def _gather(self, cursor: Cursor, total: int) -> dict[tuple[int, int], array[int]]:
        found: dict[tuple[int, int], array[int]] = {}
        if total <= self._exact:
            rows = rows_of(cursor, _ALL_NAMES)
            below = None
        else:
            limit = (self._sample << 56) // total
            rows = rows_of(cursor, _NAMES, limit, limit)
            below = limit.to_bytes(7, "big")
        for pin, size, run in rows:
            names = prefixes(between(checked(run), b"", below))
            found.setdefault((pin, size), array("Q")).extend(names)
        return found


def _shared(parts: Iterable[array[int]]) -> set[int]:
    """What is in more than one of these."""
    every: list[int] = []
    for part in parts:
        every += part
    every.sort()
    return {one for one, other in pairwise(every) if one == other}


def _distinct(
    found: Mapping[tuple[int, int], array[int]], part: float, is_meant: Callable[[int], bool]
) -> int:
    """How many there are in the pins that are meant, as the sample is such a part of all."""
    every: list[int] = []
    for (pin, _), names in found.items():
        if is_meant(pin):
            every += names
    every.sort()
    return round(part * (len(every) - sum(one == other for one, other in pairwise(every))))

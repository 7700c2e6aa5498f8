"""What was read, as this front end notes it, and as it stands in the database.

Of a reference its first 32 bits are noted: two of a hundred million blocks share them now and then,
and then one of them stays a little longer. What was not read since half of the generations were
begun is forgotten.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterable
from typing import Final

from pyroaring import BitMap

from kapla.storage.postgresql.session import Cursor

__all__ = ["Reads", "forget", "load", "number_of", "write"]

# A front end that reads more than this of one generation's time notes the first of it.
_MOST: Final = 1 << 26

# A front end writes a row every half a minute, while it reads what it had not read.
_MANY: Final = 256

_FORGET: Final = """
DELETE FROM reads WHERE generation <
    (SELECT max(number) - greatest(2, count(*) / 2) FROM generations WHERE status <> 'leaving')
"""


def number_of(reference: bytes) -> int:
    """The first 32 bits."""
    return int.from_bytes(reference[:4], "big")


class Reads:
    """What was read here; from any thread."""

    def __init__(self) -> None:
        self._new = BitMap()
        # What is written already, since that generation began.
        self._told, self._since = BitMap(), 0
        self._lock = threading.Lock()

    def add(self, references: Iterable[bytes]) -> None:
        """Note some."""
        numbers = array("I", b"".join([name[:4] for name in references]))
        if sys.byteorder == "little":
            numbers.byteswap()
        with self._lock:
            if len(self._told) < _MOST:
                self._new.update(numbers)

    def unwritten(self) -> BitMap:
        """What the database does not know yet."""
        with self._lock:
            # What was read again stays among the new: the list may be an old one, and then it
            # counts for the generation that began since.
            return self._new - self._told

    def written(self, numbers: BitMap, generation: int) -> None:
        """Now it knows this, as read while that generation was the youngest."""
        with self._lock:
            self._new -= numbers
            if generation >= self._since:
                self._told |= numbers

    def forget(self, generation: int) -> None:
        """That generation began: what is read from now on is written again."""
        with self._lock:
            self._told, self._since = BitMap(), generation


def write(cursor: Cursor, numbers: BitMap, generation: int) -> None:
    """Tell all front ends what was read here, while that generation was the youngest."""
    if numbers:
        values = generation, numbers.serialize()
        cursor.execute("INSERT INTO reads (generation, bits) VALUES (%s, %b)", values)


def forget(cursor: Cursor) -> None:
    """Another generation began: the oldest reads go. Raises: psycopg.Error."""
    cursor.execute(_FORGET)


def load(cursor: Cursor) -> BitMap:
    """What all front ends read, as far as it is not forgotten.

    One at a time does this. Where many rows tell it, there is one for each generation from then on.
    """
    forget(cursor)
    found = _by_generation(cursor.execute("SELECT generation, bits FROM reads").fetchall())
    if cursor.rowcount > _MANY:
        # What others write meanwhile stays as it is.
        cursor.execute("DELETE FROM reads RETURNING generation, bits")
        found = _by_generation(cursor.fetchall())
        for generation, numbers in found.items():
            write(cursor, numbers, generation)
    return BitMap().union(*found.values())


def _by_generation(rows: Iterable[tuple[int, bytes]]) -> dict[int, BitMap]:
    found: dict[int, BitMap] = {}
    for generation, bits in rows:
        known = found.setdefault(generation, BitMap())
        known |= BitMap.deserialize(bits)
    return found

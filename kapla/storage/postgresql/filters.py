"""What a full generation cannot have is known without asking the server.

Of each full generation the first 32 bits of its references are kept in memory, in about 2.3 bytes a
block: nothing is added to it any more, so what is not among these is not there. They are made once,
a little at a time, by whichever front end comes to it first, and stand in the database for the
others. Those that find no room in memory are asked for everything.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Final

from pyroaring import BitMap

from kapla.storage.postgresql.generations import Generations
from kapla.storage.postgresql.schema import blocks_table
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Asked", "Filters"]

_MOST_BYTES: Final = 256 * 1024 * 1024
# References at a time: some milliseconds, while PUTs wait.
_STEP: Final = 8192
_END: Final = 1 << 32

_LOAD: Final = "SELECT bits FROM filters WHERE generation = %s"
_SAVE: Final = "INSERT INTO filters VALUES (%s, %b) ON CONFLICT DO NOTHING"


class Asked:
    """Sorted names that are looked for in several generations."""

    __slots__ = ("_by_number", "_numbers", "names")

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = names
        numbers = _numbers(b"".join([name[:4] for name in names]))
        self._numbers = BitMap(numbers)
        self._by_number = dict(zip(numbers, names, strict=True))

    def among(self, bits: BitMap) -> Sequence[bytes]:
        """Those whose first 32 bits are among these; all, if two of the names share theirs."""
        if len(self._by_number) < len(self.names):
            return self.names
        # In order, as the numbers are.
        return [self._by_number[number] for number in bits & self._numbers]


class Filters:
    """Those that one front end knows. Any thread asks; one at a time goes on making them."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bits: dict[int, BitMap] = {}
        self._bytes: dict[int, int] = {}
        # The one that is being made, and how far that has come.
        self._making: tuple[int, BitMap, int] | None = None

    def may_have(self, generation: int, asked: Asked) -> Sequence[bytes]:
        """Which of these a generation may have."""
        bits = self._bits.get(generation)
        return asked.names if bits is None else asked.among(bits)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any generation."""
        return not self._bits

    def step(self, session: Session, known: Generations) -> bool:
        """Do a little of what there is to do; returns whether there is more.

        Raises: StoreUnavailable; psycopg.errors.UndefinedTable, if the list is not this one.
        """
        for number in set(self._bits) - set(known.full):
            del self._bits[number], self._bytes[number]
        missing = [number for number in known.full if number not in self._bits]
        if not missing or sum(self._bytes.values()) >= self._most_bytes:
            return False
        # The youngest first: they are asked for most.
        return session.retried(lambda cursor: self._go_on(cursor, missing[0]))

    def _go_on(self, cursor: Cursor, number: int) -> bool:
        if self._making is None or self._making[0] != number:
            row = cursor.execute(_LOAD, (number,)).fetchone()
            if row is not None:
                self._take(number, row[0])
                return True
            self._making = number, BitMap(), 0
        _, bits, start = self._making
        found = _numbers_from(cursor, number, start)
        bits |= found
        end = max(found) + 1 if found else _END
        if end < _END:
            self._making = number, bits, end
            return True
        packed = bits.serialize()
        cursor.execute(_SAVE, (number, packed))
        self._take(number, packed)
        self._making = None
        return True

    def _take(self, number: int, packed: bytes) -> None:
        self._bytes[number] = len(packed)
        self._bits[number] = BitMap.deserialize(packed)


def _numbers_from(cursor: Cursor, number: int, start: int) -> BitMap:
    """The first 32 bits of some references, in order.

    Several that share them may be cut apart: they are one number.
    """
    table = blocks_table(number).name
    statement = (
        "SELECT string_agg(substr(reference, 1, 4), ''::bytea) FROM"
        f" (SELECT reference FROM {table} WHERE reference >= %b ORDER BY reference LIMIT %s) AS few"
    )
    row = cursor.execute(statement.encode(), (start.to_bytes(4, "big"), _STEP)).fetchone()
    assert row is not None
    return BitMap(_numbers(row[0] or b""))


def _numbers(packed: bytes) -> array[int]:
    """Numbers of 32 bits that stand one behind the other."""
    numbers = array("I", packed)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers

"""What is known of a block that can be made again: 16 bytes, sorted; pure functions.

The first eight bytes of its reference, then where it is: the number of a part of a tree (28 bits),
and the number of the block in it (36 bits), big-endian. So the order of the bytes is the order of
the references, and a row of records is searched by halving.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from math import isqrt
from struct import Struct
from typing import Final

__all__ = [
    "KEY_SIZE",
    "MAX_BLOCKS",
    "MAX_PARTS",
    "RECORD_SIZE",
    "find",
    "format_record",
    "merge",
    "part_of",
]

RECORD_SIZE: Final = 16
KEY_SIZE: Final = 8
_NUMBER_BITS: Final = 36
MAX_BLOCKS: Final = 1 << _NUMBER_BITS
"""Blocks of one part."""
MAX_PARTS: Final = 1 << 64 - _NUMBER_BITS
"""Parts that an index ever has."""

_RECORD: Final = Struct(f"{RECORD_SIZE}s")
_read_key: Final = Struct(">Q").unpack_from
_ALL_KEYS: Final = 1 << 8 * KEY_SIZE
# Records that are held in memory at once where rows are merged: 20 MB, as objects.
_AT_ONCE: Final = 250_000
# What is looked at first around where a key should be: references are evenly spread, so that it is
# hardly ever off by the square root of their number.
_LEAST_WINDOW: Final = 8


def format_record(reference: bytes, part: int, number: int) -> bytes:
    """Write the record of a block: `number` in the part of this number."""
    return reference[:KEY_SIZE] + (part << _NUMBER_BITS | number).to_bytes(8, "big")


def part_of(record: bytes) -> int:
    """The number of the part that a record is of."""
    return int.from_bytes(record[KEY_SIZE:], "big") >> _NUMBER_BITS


def find(records: memoryview, reference: bytes) -> Iterator[tuple[int, int]]:
    """The places that records name for a reference: part, and number in it. Usually one, or none.

    By eight bytes of it: whoever makes the block compares it with the whole.
    """
    key = reference[:KEY_SIZE]
    at = _first(records, key) * RECORD_SIZE
    while records[at : at + KEY_SIZE] == key:
        place = int.from_bytes(records[at + KEY_SIZE : at + RECORD_SIZE], "big")
        yield place >> _NUMBER_BITS, place & MAX_BLOCKS - 1
        at += RECORD_SIZE


def _first(records: memoryview, key: bytes) -> int:
    """The number of the first record that is not before a key."""
    count = len(records) // RECORD_SIZE
    if not count:
        return 0

    def key_of(number: int) -> int:
        return _read_key(records, number * RECORD_SIZE)[0]  # type: ignore[no-any-return]

    wanted = int.from_bytes(key, "big")
    expected = wanted * count // _ALL_KEYS
    spread = _LEAST_WINDOW + isqrt(count)
    low, high = max(0, expected - spread), min(count, expected + spread)
    # Few pages of a file are touched that way.
    if low and key_of(low - 1) >= wanted:
        low = 0
    if high < count and key_of(high) < wanted:
        high = count
    return bisect_left(range(count), wanted, low, high, key=key_of)


def merge(
    rows: Sequence[memoryview], keeps: Callable[[int], bool] | None = None
) -> Iterator[bytes]:
    """Make one sorted row of several, in pieces; `keeps`: of which parts, or of all.

    What is held in memory at once is bounded, whatever the length of the rows.
    """
    total = sum(map(len, rows)) // RECORD_SIZE
    ranges = max(1, total // _AT_ONCE)
    starts = [0] * len(rows)
    for number in range(1, ranges + 1):
        if number < ranges:
            key = (number * _ALL_KEYS // ranges).to_bytes(KEY_SIZE, "big")
            ends = [_first(row, key) * RECORD_SIZE for row in rows]
        else:
            ends = [len(row) for row in rows]
        pieces = (row[start:end] for row, start, end in zip(rows, starts, ends, strict=True))
        records = [record for (record,) in chain.from_iterable(map(_RECORD.iter_unpack, pieces))]
        if keeps is not None:
            records = [record for record in records if keeps(part_of(record))]
        # Rows that are sorted already are put together in about one pass.
        records.sort()
        yield b"".join(records)
        starts = ends

"""SQLite's pages and records, as the documentation of its file format describes them; pure.

For files that SQLite itself cannot read any more: every cell is looked at alone, and one that makes
no sense spoils no other. Nothing here can be trusted: what a block is, its hash tells, and what a
set of ids is, its checksum.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "LARGEST_PAYLOAD",
    "PAGE_SIZES",
    "Cell",
    "DamagedRecord",
    "Kind",
    "Value",
    "carve",
    "cells",
    "children",
    "fits_page_size",
    "kind_of",
    "read_cell",
    "read_record",
]

Value = int | bytes | float | None

PAGE_SIZES: Final = tuple(1 << power for power in range(9, 17))
LARGEST_PAYLOAD: Final = 64 * 1024 * 1024
"""Bytes: a set of as many scattered ids as a store of a terabyte has."""
_MOST_COLUMNS: Final = 32

# Of the first page, before its b-tree header.
_FILE_HEADER: Final = 100

# What stands between the row number and the reference of a block: the types of the three columns,
# NULL, 32 bytes, 1024 or 32768 bytes. And before the row number: the length of all.
_SMALL: Final = re.compile(rb"\x05\x00\x4c\x90\x0c", re.DOTALL)
_LARGE: Final = re.compile(rb"\x06\x00\x4c\x84\x80\x0c", re.DOTALL)
_SHAPES: Final = ((_SMALL, 5 + 32 + 1024, b"\x88\x25"), (_LARGE, 6 + 32 + 32768, b"\x82\x80\x26"))


class DamagedRecord(Exception):
    """What stands here is no record."""


class Kind:
    """The first byte of a b-tree page."""

    INDEX_INNER: Final = 2
    TABLE_INNER: Final = 5
    INDEX_LEAF: Final = 10
    TABLE_LEAF: Final = 13


class Cell(NamedTuple):
    """A cell of a page: the row number, if the table has some, and what there is of the payload."""

    row: int | None
    length: int
    local: bytes
    overflow: int
    """The page where the payload goes on; 0 if it is all here."""


def kind_of(page: bytes, number: int) -> int | None:
    """Which kind of b-tree page it is; None if its header is none."""
    start = _FILE_HEADER if number == 1 else 0
    if len(page) < start + 12 or page[start] not in (2, 5, 10, 13):
        return None
    kind = page[start]
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    content = int.from_bytes(page[start + 5 : start + 7], "big") or 65536
    pointers = start + (8 if kind >= Kind.INDEX_LEAF else 12)
    return kind if pointers + 2 * count <= content and page[start + 7] <= 60 else None


def cells(page: bytes, number: int) -> list[int]:
    """Where the cells of a b-tree page begin, as far as these places are possible."""
    start = _FILE_HEADER if number == 1 else 0
    first = start + (8 if page[start] >= Kind.INDEX_LEAF else 12)
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    places = [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * count, 2)]
    return [at for at in places if first + 2 * count <= at < len(page)]


def children(page: bytes, number: int) -> list[int]:
    """The pages below an inner one, in order."""
    start = _FILE_HEADER if number == 1 else 0
    found = [int.from_bytes(page[at : at + 4], "big") for at in cells(page, number)]
    return [*found, int.from_bytes(page[start + 8 : start + 12], "big")]


def read_cell(page: bytes, at: int, kind: int, usable: int) -> Cell:
    """Read a cell of a leaf, or one of an inner page of an index.

    Raises: DamagedRecord.
    """
    row, length, at, here = _locate(page, at, kind, usable)
    local = page[at : at + here]
    if len(local) < here:
        raise DamagedRecord
    if here == length:
        return Cell(row, length, local, 0)
    return Cell(row, length, local, int.from_bytes(page[at + here : at + here + 4], "big"))


def _locate(page: bytes, at: int, kind: int, usable: int) -> tuple[int | None, int, int, int]:
    """Row number, length of the payload, where it begins, and how much of it is here."""
    if kind == Kind.INDEX_INNER:
        at += 4
    length, at = _varint(page, at)
    row = None
    if kind == Kind.TABLE_LEAF:
        row, at = _varint(page, at)
        row = row - (1 << 64) if row >> 63 else row
    if length > LARGEST_PAYLOAD:
        raise DamagedRecord
    return row, length, at, _local_size(length, usable, is_table=kind == Kind.TABLE_LEAF)


def _local_size(length: int, usable: int, *, is_table: bool) -> int:
    """How much of a payload stands in its cell."""
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    size = least + (length - least) % (usable - 4)
    return size if size <= most else least


def read_record(payload: bytes) -> list[Value]:
    """The columns of a record.

    Raises: DamagedRecord.
    """
    length, at = _varint(payload, 0)
    if not at <= length <= len(payload):
        raise DamagedRecord
    values: list[Value] = []
    body = length
    while at < length:
        kind, at = _varint(payload, at)
        size = _size_of(kind)
        if body + size > len(payload) or len(values) == _MOST_COLUMNS:
            raise DamagedRecord
        values.append(_value(kind, payload[body : body + size]))
        body += size
    return values


def _size_of(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    if kind in (10, 11):
        raise DamagedRecord
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]


def _value(kind: int, data: bytes) -> Value:
    # One damaged bit makes text of a blob: its bytes are still what they were.
    if kind >= 12:
        return data
    if kind == 0:
        return None
    if kind == 7:
        return 0.0  # no number with a fraction is of use here
    if kind in (8, 9):
        return kind - 8
    return int.from_bytes(data, "big", signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, min(at + 8, len(data))):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    if at + 8 >= len(data):
        raise DamagedRecord
    return value << 8 | data[at + 8], at + 9


def carve(page: bytes, usable: int) -> Iterator[Cell]:
    """Cells of blocks, known by what stands before each, where a page does not tell its cells.

    The row number is None where it cannot be read.
    """
    for pattern, length, prefix in _SHAPES:
        here = _local_size(length, usable, is_table=True)
        for match in pattern.finditer(page):
            start = match.start()
            local = page[start : start + here]
            if len(local) < here:
                continue
            overflow = page[start + here : start + here + 4] if here < length else b""
            row = _row_before(page, start, prefix)
            yield Cell(row, length, local, int.from_bytes(overflow, "big"))


def _row_before(page: bytes, end: int, prefix: bytes) -> int | None:
    for size in range(1, 10):
        at = end - size
        if at < len(prefix) or page[at - len(prefix) : at] != prefix:
            continue
        row, after = _varint(page, at)
        if after == end:
            return row - (1 << 64) if row >> 63 else row
    return None


def fits_page_size(page: bytes, size: int) -> bool:
    """Whether this is a leaf of a table in a file of this page size: its first cell ends there."""
    if len(page) != size or kind_of(page, 0) != Kind.TABLE_LEAF:
        return False
    places = cells(page, 0)
    if not places:
        return False
    try:
        _, length, at, here = _locate(page, max(places), Kind.TABLE_LEAF, size)
    except DamagedRecord:
        return False
    return at + here + (4 if here < length else 0) == size

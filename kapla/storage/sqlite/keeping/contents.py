"""What is in a pin, some references at a time: first of blocks that are there, then what it lacks.

A place is an id as an unsigned number, which is in the order of arrival; behind all of these, how
much of what is lacking was told.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.storage.port import Page
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin
from kapla.storage.sqlite.keeping.rows import PinRows
from kapla.storage.sqlite.statements import IN_SIZES, statements

__all__ = ["contents"]

_PAGE: Final = 1024
_END: Final = 1 << 64


def contents(connection: sqlite3.Connection, rows: PinRows, pin: Pin, start: int) -> Page:
    """Some of a pin. Ids that lead to nothing, and what is not known by name, are left out.

    Raises: sqlite3.Error.
    """
    if start < _END:
        return _there(connection, pin.ids, start)
    lacking = rows.lacking(pin.id, start - _END, _PAGE)
    if not lacking:
        return Page([], None)
    names = [Reference(key) for key in lacking if len(key) == REFERENCE_SIZE]
    return Page(names, start + len(lacking))


def _there(connection: sqlite3.Connection, ids: Ids, start: int) -> Page:
    chosen: list[int] = []
    place = start
    while len(chosen) < _PAGE and place < _END and (found := ids.next(place)) is not None:
        chosen.append(found)
        place = found % _END + 1
    following = place if len(chosen) == _PAGE else _END
    return Page(_names(connection, chosen), following)


def _names(connection: sqlite3.Connection, ids: list[int]) -> list[Reference]:
    names: list[Reference] = []
    for start in range(0, len(ids), IN_SIZES[-1]):
        part = ids[start : start + IN_SIZES[-1]]
        size = next(size for size in IN_SIZES if size >= len(part))
        values = (*part, *([part[-1]] * (size - len(part))))
        rows = connection.execute(statements().name_by_id[size], values)
        names += (Reference(name) for (name,) in rows if isinstance(name, bytes))
    return names

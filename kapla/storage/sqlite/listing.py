"""Listing a whole store, some blocks at a time, in the order of their arrival.

Each page is read on a connection of its own, so that neither readers nor writers wait for it. A
page costs the same wherever it is. What was put or evicted meanwhile may be in the list or not, and
what an eviction put at the end again may be there twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from functools import partial
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.storage.listing import Pages
from kapla.storage.port import Page
from kapla.storage.sqlite.damage import is_damage, unreadable
from kapla.storage.sqlite.engine import connect
from kapla.storage.sqlite.schema import LOWEST_ID
from kapla.storage.sqlite.state import SqliteSettings
from kapla.storage.sqlite.statements import statements

__all__ = ["PAGE", "pages_of"]

PAGE: Final = 1000
"""Blocks in a page. Their references are in one message; of large blocks each eight are in a page
of the database of their own."""

_SIGN: Final = 1 << 63
_END: Final = 1 << 64
_LOWEST: Final = LOWEST_ID + _END
_CACHE: Final = 2 * 1024 * 1024


def pages_of(settings: SqliteSettings) -> Pages:
    """The list of what a store has."""
    return Pages(partial(_read, replace(settings, cache_bytes=_CACHE, mmap_bytes=0)))


def _read(settings: SqliteSettings, start: int) -> Page:
    try:
        connection = connect(settings)
    except sqlite3.Error as error:
        raise unreadable(error) from error
    try:
        return _read_page(connection, start)
    except sqlite3.Error as error:
        raise unreadable(error) from error
    finally:
        connection.close()


def _read_page(connection: sqlite3.Connection, start: int) -> Page:
    """A page by ids, which as unsigned numbers are in the order of arrival."""
    try:
        rows = _rows(connection, start)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return _step_over(connection, start)
    if not rows:
        return Page([], None)
    return Page(_references(rows), (rows[-1][0] & _END - 1) + 1)


def _rows(connection: sqlite3.Connection, start: int) -> list[tuple[int, object]]:
    listed = statements().list_between
    rows: list[tuple[int, object]] = []
    if start < _SIGN:
        rows = connection.execute(listed, (start, _SIGN - 1, PAGE, 0)).fetchall()
    if len(rows) < PAGE:
        # What a store has whose last page was damaged: they come from below zero.
        first = _signed(max(start, _SIGN))
        rows += connection.execute(listed, (first, -1, PAGE - len(rows), 0)).fetchall()
    return rows


def _step_over(connection: sqlite3.Connection, start: int) -> Page:
    """What can be read of the next ids, one by one."""
    one = statements().list_between
    last = _last_id(connection, start)
    end = start + PAGE
    rows: list[tuple[int, object]] = []
    for number in range(start, end if last is None else min(end, last + 1)):
        try:
            rows += connection.execute(one, (_signed(number), _signed(number), 1, 0)).fetchall()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
    if rows or (last is not None and end <= last):
        return Page(_references(rows), end)
    return Page([], None if start >= _LOWEST else _LOWEST)


def _last_id(connection: sqlite3.Connection, start: int) -> int | None:
    """The last id of those on this side of zero; None if there is none, or it cannot be read."""
    texts = statements()
    try:
        if start < _SIGN:
            (last,) = connection.execute(texts.last_id).fetchone()
        else:
            (last,) = connection.execute(texts.last_id_below, (0,)).fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return None
    return None if last is None else int(last) & _END - 1


def _signed(number: int) -> int:
    return number - _END if number >= _SIGN else number


def _references(rows: list[tuple[int, object]]) -> list[Reference]:
    return [
        Reference(name)
        for _, name in rows
        if isinstance(name, bytes) and len(name) == REFERENCE_SIZE
    ]

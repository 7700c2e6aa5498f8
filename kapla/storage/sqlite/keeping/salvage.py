"""Making the tables of pins anew, where they are damaged, so that nothing is lost by it.

What can be read of them is kept. Where a pin, or what came for one, cannot be read, it is not known
any more what must stay: then all that there is stays, under one pin of root's that says so.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.storage.pins import SALVAGED, Sizes
from kapla.storage.sqlite import schema
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, replace_tables
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin
from kapla.storage.sqlite.keeping.rows import PinRows, pin_of_row
from kapla.storage.sqlite.statements import statements

__all__ = ["all_of_them", "salvage"]

_log = logging.getLogger(__name__)

# Each with the ways in which it can be read, one after the other: those of `wanted` also out of its
# index, which has all columns.
_TABLES: Final = {
    "pins": ("id", "id DESC"),
    "wanted": ("reference", "reference DESC", "pin, reference", "pin DESC, reference DESC"),
    "arrivals": ("pin, block_id", "pin DESC, block_id DESC"),
}


class _Table(NamedTuple):
    """What could be read of a table, and whether that is all."""

    rows: list[tuple[Any, ...]]
    is_whole: bool


def salvage(connection: sqlite3.Connection) -> None:
    """Make anew what is damaged of the tables of pins. Raises: sqlite3.Error."""
    tables = {name: _read(connection, name, ways) for name, ways in _TABLES.items()}
    pins, bad = _sound(tables["pins"].rows)
    is_known = tables["pins"].is_whole and tables["arrivals"].is_whole and not bad
    broken = {name: table for name, table in tables.items() if not table.is_whole}

    def make() -> None:
        for name, table in broken.items():
            _make(connection, name, table.rows if name != "pins" else [])
        rows = PinRows(connection)
        if "pins" in broken:
            for pin in pins:
                rows.insert(pin)
        connection.executemany("DELETE FROM pins WHERE id = ?", [(number,) for number in bad])
        if not is_known:
            _keep_all(connection, rows)

    replace_tables(connection, list(broken), make)
    if not is_known:
        _log.error(
            "The pins are damaged: %d can be read. All that the store has is kept, by the pin %s:"
            " pin again what matters, then release that",
            len(pins),
            SALVAGED,
        )
    if not tables["wanted"].is_whole:
        _log.error(
            "What pins lack cannot be read wholly, but for %d blocks: pin again what matters",
            len(tables["wanted"].rows),
        )


def _read(connection: sqlite3.Connection, table: str, ways: Sequence[str]) -> _Table:
    """What can be read of a table, from all its ends."""
    rows: dict[tuple[Any, ...], None] = {}
    is_whole = _is_sound(connection, table)
    for way in ways:
        try:
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY {way}"):
                rows[row] = None
            if is_whole:
                break
        except sqlite3.Error as error:
            _check_damage(error)
            is_whole = False
    return _Table(list(rows), is_whole)


def _is_sound(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a table and its indexes agree."""
    try:
        found = connection.execute(f"PRAGMA integrity_check({table})").fetchall()
    except sqlite3.Error as error:
        _check_damage(error)
        return False
    return found == [(b"ok",)]


def _check_damage(error: sqlite3.Error) -> None:
    """Only what is damaged is made anew; a busy or full disk is not."""
    if not (is_damage(error) or is_bad_disk(error)):
        raise error


def _sound(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Pin], list[object]]:
    """The pins that can be used, and the numbers of the others."""
    pins: dict[tuple[int, str], Pin] = {}
    bad: list[object] = []
    for row in rows:
        try:
            pin = pin_of_row(row)
        except StorageError:
            bad.append(row[0])
        else:
            pins[pin.owner, pin.name] = pin
    return list(pins.values()), bad


def _make(connection: sqlite3.Connection, name: str, rows: list[tuple[Any, ...]]) -> None:
    connection.execute(statements().create[name])
    for index in schema.metadata.tables[name].indexes:
        connection.execute(f"CREATE INDEX {index.name} ON {name} ({index.columns.keys()[0]})")
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(
            f"INSERT OR IGNORE INTO {name} VALUES ({marks})",
            rows,
        )


def all_of_them(connection: sqlite3.Connection, number: int) -> Pin:
    """A pin over all that there is. Raises: sqlite3.Error."""

    def one(text: str) -> Sequence[Any]:
        row: Sequence[Any] = connection.execute(text).fetchone()
        return row

    now, ids = int(time.time()), schema.all_ids(one)
    totals = _totals(one)
    is_counted = totals is not None
    sums = totals or Sizes()
    return Pin(number, 0, SALVAGED, None, True, False, now, ids, Ids(), sums, is_counted)


def _keep_all(connection: sqlite3.Connection, rows: PinRows) -> None:
    before = rows.named(0, SALVAGED)
    if before is not None:
        rows.delete(before)
    rows.insert(all_of_them(connection, rows.last_number() + 1))


def _totals(one: Callable[[str], Sequence[Any]]) -> Sizes | None:
    """How many blocks there are, if it is known."""
    counts = []
    for size in BlockSize:
        try:
            (count,) = one(f"SELECT sum(blocks) FROM totals WHERE block_size = {int(size)}")
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return None
        if not isinstance(count, int):
            return None
        counts.append(count)
    return Sizes(*counts)

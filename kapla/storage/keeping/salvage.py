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
from kapla.storage import schema
from kapla.storage.damage import drop_table, is_bad_disk, is_damage, transaction
from kapla.storage.keeping.ids import Ids
from kapla.storage.keeping.pin import Pin, Sizes
from kapla.storage.keeping.rows import PinRows, pin_of_row
from kapla.storage.statements import statements

__all__ = ["all_of_them", "salvage"]

_log = logging.getLogger(__name__)

_TABLES: Final = {"pins": "id", "wanted": "reference, pin", "arrivals": "pin, block_id"}


class _Table(NamedTuple):
    """What could be read of a table, and whether that is all."""

    rows: list[tuple[Any, ...]]
    is_whole: bool


def salvage(connection: sqlite3.Connection) -> None:
    """Make anew what is damaged of the tables of pins. Raises: sqlite3.Error."""
    tables = {name: _read(connection, name, order) for name, order in _TABLES.items()}
    pins, bad = _sound(tables["pins"].rows)
    is_known = tables["pins"].is_whole and tables["arrivals"].is_whole and not bad
    for name, table in tables.items():
        if not table.is_whole:
            drop_table(connection, name)
    with transaction(connection):
        for name, table in tables.items():
            if not table.is_whole:
                _make(connection, name, table.rows if name != "pins" else [])
        rows = PinRows(connection)
        if not tables["pins"].is_whole:
            for pin in pins:
                rows.insert(pin)
        connection.executemany("DELETE FROM pins WHERE id = ?", [(number,) for number in bad])
        if not is_known:
            _keep_all(connection, rows)
    if not is_known:
        _log.error(
            "The pins are damaged: %d can be read. All that the store has is kept, by the pin %s",
            len(pins),
            schema.SALVAGED,
        )
    if not tables["wanted"].is_whole:
        _log.error("It cannot be read any more what pins lack: pin what matters again")


def _read(connection: sqlite3.Connection, table: str, order: str) -> _Table:
    """All rows from the beginning, and from the end, up to what cannot be read."""
    rows: dict[tuple[Any, ...], None] = {}
    is_whole = True
    down = ", ".join(f"{column} DESC" for column in order.split(", "))
    for ordered in (order, down):
        text = f"SELECT * FROM {table} ORDER BY {ordered}"
        try:
            for row in connection.execute(text):
                rows[row] = None
            return _Table(list(rows), is_whole)
        except sqlite3.Error as error:
            if not (is_damage(error) or is_bad_disk(error)):
                raise
            is_whole = False
    return _Table(list(rows), is_whole)


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
    return Pin(number, 0, schema.SALVAGED, None, True, False, now, ids, Ids(), _totals(one))


def _keep_all(connection: sqlite3.Connection, rows: PinRows) -> None:
    before = rows.named(0, schema.SALVAGED)
    if before is not None:
        rows.delete(before)
    rows.insert(all_of_them(connection, rows.last_number() + 1))


def _totals(one: Callable[[str], Sequence[Any]]) -> Sizes:
    """How many blocks there are, as far as it is known."""
    counts = []
    for size in BlockSize:
        try:
            (count,) = one(f"SELECT sum(blocks) FROM totals WHERE block_size = {int(size)}")
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            count = 0
        counts.append(count if isinstance(count, int) else 0)
    return Sizes(*counts)

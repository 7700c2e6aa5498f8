"""Blocks that are bad go: for the writer's thread, between its commits.

Each is looked at once more, for a good one may have come meanwhile. The row goes, and the place
that leads to it; where damage holds the row, the place alone. Then the block counts as not there,
its pins lack it, and one that comes is kept. What somebody holds who is just storing it stays until
the next look: a good one may be on its way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from eris.crypto import reference_of
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, transaction
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.notes import Note, write_notes
from kapla.storage.sqlite.schema import prefix_of
from kapla.storage.sqlite.writer import SqliteWriter

__all__ = ["drop_bad"]

_NAME: Final = "SELECT reference, length(block) FROM blocks WHERE id = ?"
_BLOCK: Final = "SELECT block FROM blocks WHERE id = ?"


class _Bad(NamedTuple):
    id: int
    reference: bytes | None
    size: int | None
    """As the totals count it."""


def drop_bad(writer: SqliteWriter, suspects: Sequence[int]) -> int:
    """Drop those of these blocks that are bad; returns how many are.

    Raises: sqlite3.Error.
    """
    found = [bad for bad in (_look(writer, block_id) for block_id in suspects) if bad is not None]
    # Under the lock: nobody is told meanwhile that one of these is there, and held.
    with writer.database.keeping.lock:
        held = Ids()
        for hold in writer.database.keeping.holds():
            held = held | hold.small | hold.large
        _drop_many(writer, [bad for bad in found if bad.id not in held])
    return len(found)


def _drop_many(writer: SqliteWriter, found: Sequence[_Bad]) -> None:
    """In one transaction, as pins are read for it; or each alone, where damage is in the way."""
    try:
        _drop(writer, found, with_rows=True)
        return
    except sqlite3.Error as error:
        _check(error)
    for bad in found:
        try:
            _drop(writer, [bad], with_rows=True)
        except sqlite3.Error as error:
            _check(error)
            _drop(writer, [bad], with_rows=False)


def _look(writer: SqliteWriter, block_id: int) -> _Bad | None:
    """What is known of it, if it is there and bad."""
    execute = writer.connection.execute
    reference: Any = None
    size: Any = None
    try:
        row = execute(_NAME, (block_id,)).fetchone()
        if row is None:
            return None
        reference, size = row
        (block,) = execute(_BLOCK, (block_id,)).fetchone()
        if isinstance(block, bytes) and reference_of(block) == reference:
            return None
    except sqlite3.Error as error:
        _check(error)
    is_reference = isinstance(reference, bytes) and len(reference) == 32
    is_counted = size in (writer.database.totals or {})
    return _Bad(block_id, reference if is_reference else None, size if is_counted else None)


def _drop(writer: SqliteWriter, found: Sequence[_Bad], *, with_rows: bool) -> None:
    execute, database = writer.connection.execute, writer.database
    places = [(prefix_of(bad.reference), bad.id) for bad in found if bad.reference is not None]
    sizes = {bad.id: bad.size for bad in found if bad.size is not None}
    database.is_placed &= with_rows
    with transaction(writer.connection):
        if not with_rows:
            write_notes(writer.connection, {Note.ALL_PLACED: None})
        else:
            for bad in found:
                execute("DELETE FROM blocks WHERE id = ?", (bad.id,))
            for size in sizes.values():
                execute("UPDATE totals SET blocks = blocks - 1 WHERE block_size = ?", (size,))
        for place in places:
            execute("DELETE FROM places WHERE prefix = ? AND block_id = ?", place)
        # Last: what is noted in memory is not taken back.
        writer.pins.lost({bad.id: bad.reference for bad in found}, sizes)
    for place in places:
        database.recent.discard(*place)
    if with_rows and database.totals is not None:
        for size in sizes.values():
            database.totals[size] -= 1


def _check(error: sqlite3.Error) -> None:
    if not (is_damage(error) or is_bad_disk(error)):
        raise error

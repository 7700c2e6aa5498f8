"""Blocks that are bad go: for the writer's thread, between its commits.

Each is looked at once more, for a good one may have come meanwhile. The row goes, and the place
that leads to it; where damage holds the row, the place alone. Then the block counts as not there,
and one that comes is kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from eris.crypto import reference_of
from kapla.storage.damage import is_bad_disk, is_damage, transaction
from kapla.storage.schema import prefix_of
from kapla.storage.sqlite import SqliteWriter

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
    for bad in found:
        try:
            _drop(writer, bad, with_row=True)
        except sqlite3.Error as error:
            _check(error)
            _drop(writer, bad, with_row=False)
    return len(found)


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


def _drop(writer: SqliteWriter, bad: _Bad, *, with_row: bool) -> None:
    execute, database = writer.connection.execute, writer.database
    with transaction(writer.connection):
        if with_row:
            execute("DELETE FROM blocks WHERE id = ?", (bad.id,))
        if bad.reference is not None:
            _drop_place(writer, prefix_of(bad.reference), bad.id)
        if bad.size is not None and with_row:
            execute("UPDATE totals SET blocks = blocks - 1 WHERE block_size = ?", (bad.size,))
    if bad.reference is not None:
        database.recent.discard(prefix_of(bad.reference), bad.id)
    if bad.size is not None and with_row and database.totals is not None:
        database.totals[bad.size] -= 1


def _drop_place(writer: SqliteWriter, prefix: int, block_id: int) -> None:
    writer.connection.execute(
        "DELETE FROM places WHERE prefix = ? AND block_id = ?", (prefix, block_id)
    )


def _check(error: sqlite3.Error) -> None:
    if not (is_damage(error) or is_bad_disk(error)):
        raise error

"""Blocks that are bad go. Each is looked at once more; then it counts as not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import errors

from eris.crypto import reference_of
from eris.model import BlockSize, Reference
from kapla.storage.pins import Sizes
from kapla.storage.postgresql import counts, locks
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.schema import blocks_table
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Suspect", "drop_bad"]


class Suspect(NamedTuple):
    """A block that is not what its reference says."""

    generation: int
    reference: bytes


def drop_bad(session: Session, front: Front, suspects: Sequence[Suspect]) -> list[Reference]:
    """Drop those of these blocks that are bad; returns which are. Raises: StoreUnavailable."""
    bad = []
    for suspect in suspects:
        try:
            sizes = session.retried(lambda cursor, one=suspect: _drop(cursor, one))  # type: ignore[misc]
        except errors.UndefinedTable:
            # It made room meanwhile.
            continue
        if sizes is not None:
            bad.append(Reference(suspect.reference))
            front.count(suspect.generation, sizes)
    return bad


def _drop(cursor: Cursor, suspect: Suspect) -> Sizes | None:
    table = str(blocks_table(suspect.generation).name)
    # Alone: whoever counted on it has written so, and is told.
    cursor.execute(locks.exclusive(locks.PRESENCE).encode())
    cursor.execute(
        f"SELECT block FROM {table} WHERE reference = %b FOR UPDATE".encode(),
        (suspect.reference,),
    )
    row = cursor.fetchone()
    if row is None or reference_of(row[0]) == suspect.reference:
        return None
    cursor.execute(f"DELETE FROM {table} WHERE reference = %b".encode(), (suspect.reference,))
    size = len(row[0])
    sizes = Sizes(-(size == BlockSize.SMALL), -(size == BlockSize.LARGE))
    counts.add(cursor, suspect.generation, sizes)
    return sizes

"""What an open pin holds, put in order: in narrow runs, each reference once.

In one transaction, in bounded memory: the lowest references are gathered from all runs and written,
then the next ones, until there are no more. So whoever is killed meanwhile has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eris.model import REFERENCE_SIZE, BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.postgresql.holds import insert_runs
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import Lowest, checked
from kapla.storage.postgresql.session import Cursor

__all__ = ["put_in_order", "runs_held"]

_OF_SIZE: Final = "SELECT names FROM pin_runs WHERE pin = %d AND size = %d"
_LACKING: Final = "SELECT names FROM pin_runs WHERE pin = %d AND lacking"
# The new runs are those of this transaction.
_DELETE: Final = """
DELETE FROM pin_runs WHERE pin = %s AND xmin <> pg_current_xact_id()::xid
"""


def put_in_order(cursor: Cursor, number: int) -> tuple[Sizes, int]:
    """Write the runs of a pin anew, whose row this transaction has.

    Returns how many blocks it holds, and how many it lacks. Raises: psycopg.Error, StorageError.
    """
    counts = dict[int | None, int]()
    for size in (*BlockSize, None):
        counts[size] = 0
        for run in runs_held(cursor, number, size):
            insert_runs(cursor, number, [run], size)
            counts[size] += len(run) // REFERENCE_SIZE
    cursor.execute(_DELETE, (number,))
    return Sizes(counts[BlockSize.SMALL], counts[BlockSize.LARGE]), counts[None]


def runs_held(cursor: Cursor, number: int, size: int | None) -> Iterator[bytes]:
    """What a pin has of a size in order; of None, what it lacks.

    What is written while they are taken is in none of them. Raises: psycopg.Error, StorageError.
    """
    low: bytes | None = b""
    while low is not None:
        lowest = Lowest(low)
        values = (number,) if size is None else (number, size)
        for (run,) in rows_of(cursor, _LACKING if size is None else _OF_SIZE, *values):
            lowest.add(checked(run))
        runs = list(lowest.runs())
        low = lowest.below
        yield from runs

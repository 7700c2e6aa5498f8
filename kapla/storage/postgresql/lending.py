"""What is lent without a pin, as the tables have it: while its generation is there.

Whoever puts the same again lends it again, and a round of PUTs has few blocks; so the rows of the
generation that is being filled are put in order when they have become twice as many. What was lent
and went with its generation is lent no more; where it was lent by a younger one too, it is lent
when it comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from kapla.storage.postgresql import locks
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.presence import filling
from kapla.storage.postgresql.runs import Lowest, checked, runs_of, split
from kapla.storage.postgresql.session import Cursor

__all__ = ["carry_lent", "changed_lent", "lend", "put_lent_in_order"]

_INSERT: Final = "INSERT INTO lent_runs (generation, names) SELECT %s::int, unnest(%s)"
_CHANGED: Final = "UPDATE state SET lent_version = lent_version + 1"
_OF: Final = "SELECT names FROM lent_runs WHERE generation = %d"
_BETWEEN: Final = """
SELECT names FROM lent_runs WHERE generation <> {staying:d}
    AND substr(names, 1, 32) <= '\\x{last}'
    AND substr(names, octet_length(names) - 31) >= '\\x{first}'
"""
_COUNT: Final = "SELECT count(*) FROM lent_runs WHERE generation = %s"
_DELETE: Final = """
DELETE FROM lent_runs WHERE generation = %s AND written <> pg_current_xact_id()::text::bigint
"""
_FEW: Final = 1024
"""Rows that nobody puts in order."""


def lend(cursor: Cursor, generation: int, runs: Iterable[bytes]) -> None:
    """Have these lent while a generation is there. Raises: psycopg.Error."""
    given = list(runs)
    if given:
        cursor.execute(_INSERT, (generation, array_of(given)))


def changed_lent(cursor: Cursor) -> None:
    """What pins lend has changed; at the end of a transaction. Raises: psycopg.Error."""
    cursor.execute(_CHANGED)


def carry_lent(cursor: Cursor, names: Sequence[bytes], staying: int) -> None:
    """These blocks go into a generation: what of them is lent by another one is lent there, too.

    They are sorted. Raises: psycopg.Error, StorageError.
    """
    if not names:
        return
    among, found = set(names), set[bytes]()
    # They may have been lent later than they came, by a younger generation than theirs.
    query = _BETWEEN.format(staying=staying, first=names[0].hex(), last=names[-1].hex())
    for (run,) in rows_of(cursor, query):
        found |= among.intersection(split(checked(run)))
    lend(cursor, staying, runs_of(found))


def put_lent_in_order(cursor: Cursor, before: int) -> int:
    """Write what is lent with the youngest generation in few rows, each reference once.

    At the beginning of a transaction. `before`: rows that there were after the last time; where
    they are not twice as many by now nothing is done. Returns how many there were then.
    Raises: psycopg.Error, StorageError.
    """
    # What comes meanwhile is not read, and not deleted.
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    generation = filling(cursor)
    row = cursor.execute(_COUNT, (generation,)).fetchone()
    if row is None or row[0] <= 2 * before + _FEW:
        return before
    if cursor.execute(locks.trying(locks.LENDING).encode()).fetchone() != (True,):
        return before
    count, low = 0, b""
    while True:
        lowest = Lowest(low)
        for (run,) in rows_of(cursor, _OF, generation):
            lowest.add(checked(run))
        runs = list(lowest.runs())
        lend(cursor, generation, runs)
        count += len(runs)
        if lowest.below is None:
            break
        low = lowest.below
    cursor.execute(_DELETE, (generation,))
    return count

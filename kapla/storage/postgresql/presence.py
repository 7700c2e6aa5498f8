"""Which blocks are there, for who counts on it: what only a generation has that leaves is not.

Whoever asks has the lock of presence, shared, until his transaction ends: meanwhile no generation
begins to leave. So what is found, and written into a run in that transaction, is seen by the next
eviction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from eris.model import BlockSize, Reference
from kapla.storage.pins import Sizes
from kapla.storage.postgresql import counts, generations, locks, statements
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.generations import Generations
from kapla.storage.postgresql.session import Cursor

__all__ = ["AskedFor", "copied", "filling", "look_up", "rescue"]

_STAYING: Final = "SELECT number FROM generations WHERE status <> 'leaving' ORDER BY number DESC"
# As what an eviction copies: it counts once.
_COPIED: Final = "UPDATE leaving SET small = small + %s, large = large + %s WHERE generation = %s"
_MOST_LISTS: Final = 16

AskedFor = Callable[[Sequence[int], Sequence[bytes]], dict[str, Any]]
"""Makes parameters that look for sorted names in some generations."""


def look_up(
    cursor: Cursor, names: Sequence[Reference], asked: AskedFor = statements.everywhere
) -> dict[Reference, int]:
    """Which of these are there, and what size each has; from now on that stays so.

    `asked`: makes the parameters, see `Front.asked`. Raises: psycopg.Error.
    """
    if not names:
        return {}
    # A statement of its own: what the next ones see is later.
    cursor.execute(locks.shared(locks.PRESENCE).encode())
    staying = tuple(row[0] for row in cursor.execute(_STAYING).fetchall())
    if not staying:
        return {}
    rows = cursor.execute(_found_in(staying), asked(staying, sorted(set(names))))
    return {Reference(bytes(name)): size for name, size in rows.fetchall()}


def rescue(cursor: Cursor, names: Sequence[Reference]) -> None:
    """Copy what only a generation has that leaves: then it is there. They are sorted.

    Whoever asks has the lock of presence. Raises: psycopg.Error.
    """
    known = generations.read(cursor)
    for source in known.leaving if names else ():
        sizes = copied(cursor, known, source, names)
        counts.add(cursor, known.filling, sizes)
        cursor.execute(_COPIED, (*sizes, source))


def copied(
    cursor: Cursor,
    known: Generations,
    source: int,
    names: Sequence[bytes],
    asked: AskedFor = statements.everywhere,
) -> Sizes:
    """Copy blocks of a generation into the youngest one; returns how many were not there.

    `names`: sorted. `asked`: see `look_up`. Raises: psycopg.Error.
    """
    values = asked(known.full, names) | {"names": array_of(names)}
    cursor.execute(statements.copy(source, known.filling, known.full), values)
    lengths = [length for (length,) in cursor.fetchall()]
    return Sizes(lengths.count(BlockSize.SMALL), lengths.count(BlockSize.LARGE))


def filling(cursor: Cursor) -> int:
    """The generation that new blocks go into. Raises: psycopg.Error."""
    row = cursor.execute(f"{_STAYING} LIMIT 1".encode()).fetchone()
    assert row is not None
    return int(row[0])


@lru_cache(_MOST_LISTS)
def _found_in(generations: tuple[int, ...]) -> bytes:
    # The length stands before the block, which is not read.
    return " UNION ALL ".join(
        f"SELECT reference, octet_length(block) FROM blocks_{number:d}"
        f" WHERE reference = ANY(%({statements.names_in(number)})s)"
        for number in generations
    ).encode()

"""How many blocks there are, and how many bytes they take.

What each front end adds is known to it at once, what others add when it next looks. The bytes are
measured now and then; between that they are reckoned from the blocks that came.
"""

from __future__ import annotations

from typing import Final

from eris.model import BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.postgresql import locks
from kapla.storage.postgresql.session import Cursor

__all__ = ["add", "fold", "measure", "read", "sizes_of", "weight_of"]

# What a block takes with its row, its place in the index, and the pieces that PostgreSQL cuts a
# large one into: as measured, with the room that is left in the pages of the index.
_SMALL_ROW: Final = 1290
_LARGE_ROW: Final = 35_600

# A copy that was made for a generation that leaves counts once.
_READ: Final = """
SELECT generation, sum(small)::bigint, sum(large)::bigint
FROM (
    SELECT generation, small, large FROM totals
    UNION ALL SELECT generation, small, large FROM added
    UNION ALL SELECT generation, -small, -large FROM leaving
) AS counted
GROUP BY generation
"""
_FOLD: Final = """
WITH gone AS (DELETE FROM added RETURNING generation, small, large)
INSERT INTO totals
SELECT generation, sum(small), sum(large) FROM gone GROUP BY generation
ON CONFLICT (generation) DO UPDATE
SET small = totals.small + excluded.small, large = totals.large + excluded.large
"""
_MEASURE: Final = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


def weight_of(sizes: Sizes) -> int:
    """About how many bytes blocks take."""
    return sizes.small * _SMALL_ROW + sizes.large * _LARGE_ROW


def sizes_of(blocks: dict[int, int]) -> Sizes:
    """Numbers of blocks by their size."""
    return Sizes(blocks.get(BlockSize.SMALL, 0), blocks.get(BlockSize.LARGE, 0))


def read(cursor: Cursor) -> dict[int, Sizes]:
    """How many blocks each generation has."""
    cursor.execute(_READ)
    return {number: Sizes(small, large) for number, small, large in cursor.fetchall()}


def add(cursor: Cursor, generation: int, sizes: Sizes) -> None:
    """Count blocks that came, or went."""
    if any(sizes):
        cursor.execute("INSERT INTO added VALUES (%s, %s, %s)", (generation, *sizes))


def fold(cursor: Cursor) -> None:
    """Add up what came, unless somebody else does."""
    row = cursor.execute(locks.trying(locks.FOLDING).encode()).fetchone()
    if row == (True,):
        cursor.execute(_FOLD)


def measure(cursor: Cursor) -> int:
    """How many bytes all tables take."""
    row = cursor.execute(_MEASURE).fetchone()
    assert row is not None
    return int(row[0])

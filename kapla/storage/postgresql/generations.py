"""The generations of blocks: which there are, and how another one begins.

Their list is known by its epoch. Whoever changes it has the lock of presence alone, so nobody
counts on a list that is changed meanwhile; whoever puts blocks has that lock with others, and looks
if the list is the one that he knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from kapla.storage.postgresql import locks
from kapla.storage.postgresql.schema import make_blocks_table
from kapla.storage.postgresql.session import Cursor

__all__ = ["EPOCH", "Generations", "Outdated", "check_epoch", "next_epoch", "read", "turn"]

EPOCH = "SELECT epoch FROM state"

_LIST = "SELECT epoch, number, status FROM state, generations ORDER BY number DESC"


class Outdated(Exception):
    """The list of the generations is not what it was."""


@dataclass(frozen=True, slots=True)
class Generations:
    """Which there are, by number: the youngest, into which all goes, and others, youngest first."""

    epoch: int
    filling: int
    full: tuple[int, ...] = ()
    leaving: tuple[int, ...] = ()

    @property
    def staying(self) -> tuple[int, ...]:
        """Those whose blocks count as there."""
        return (self.filling, *self.full)

    @property
    def all(self) -> tuple[int, ...]:
        """Those that are read."""
        return (self.filling, *self.full, *self.leaving)


def read(cursor: Cursor) -> Generations:
    """The list as it is. Raises: psycopg.Error."""
    rows = cursor.execute(_LIST).fetchall()
    by_status: dict[str, list[int]] = {"filling": [], "full": [], "leaving": []}
    for _, number, status in rows:
        by_status[status].append(number)
    (filling,) = by_status["filling"]
    return Generations(rows[0][0], filling, tuple(by_status["full"]), tuple(by_status["leaving"]))


def check_epoch(cursor: Cursor, known: Generations) -> None:
    """Take the lock of presence, with others; then the list stays until the transaction ends.

    Raises: Outdated, if it is not this one.
    """
    cursor.execute(locks.shared(locks.PRESENCE).encode())
    # A statement of its own: it sees what was changed while the lock was waited for.
    row = cursor.execute(EPOCH).fetchone()
    if row != (known.epoch,):
        raise Outdated


def next_epoch(cursor: Cursor) -> int:
    """Say that the list is changed; for whoever has the lock of presence alone."""
    row = cursor.execute("UPDATE state SET epoch = epoch + 1 RETURNING epoch").fetchone()
    assert row is not None
    return int(row[0])


def turn(cursor: Cursor, known: Generations) -> Generations:
    """Begin another generation, unless somebody else did; returns the list as it is then."""
    cursor.execute(locks.exclusive(locks.PRESENCE).encode())
    now = read(cursor)
    if now.filling != known.filling:
        return now
    number = now.filling + 1
    cursor.execute("UPDATE generations SET status = 'full' WHERE status = 'filling'")
    cursor.execute("INSERT INTO generations VALUES (%s, 'filling')", (number,))
    make_blocks_table(cursor, number)
    epoch = next_epoch(cursor)
    return Generations(epoch, number, now.staying, now.leaving)

"""What an open pin holds, as this process has it, and how runs are written into the database.

The blocks themselves stand in the database only. Here is what tells who it is, and how much was
written twice: an asker who asks for the same again and again must not fill the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import Connection
from pyroaring import BitMap

from eris.model import REFERENCE_SIZE
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.runs import first_bits, runs_of
from kapla.storage.postgresql.session import Cursor

__all__ = [
    "Account",
    "Accounts",
    "PostgresHold",
    "insert_runs",
    "lock_holds",
    "write_held",
    "write_lacking",
]

_ACCOUNTS: Final = 10_000
_SPARE: Final = 1 << 16
"""References that may stand there twice, beside as many as there are."""

# The row of the pin is locked with others: whoever closes it waits until this is committed, and
# what comes after that finds no open pin and writes nothing.
_LOCK: Final = """
SELECT FROM pins WHERE number = ANY(%s::bigint[]) AND name IS NULL ORDER BY number FOR KEY SHARE
"""
_INSERT: Final = """
INSERT INTO pin_runs (pin, lacking, size, first, last, names)
SELECT pin.number, %(lacking)s, %(size)s::int, substr(run.names, 1, 32),
    substr(run.names, octet_length(run.names) - 31), run.names
FROM (SELECT number FROM pins WHERE number = %(pin)s AND name IS NULL FOR KEY SHARE) AS pin,
    unnest(%(runs)s) AS run (names)
"""


class Account:
    """What one owner has pinned, as far as this process knows: see `quota`."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.lock = threading.Lock()
        self.bound: int | None = None
        """Bytes that are pinned at the most; None: nobody has looked yet."""
        self.lacking = 0
        """References that the pins lack, as of the last look."""
        self.is_more_elsewhere = False
        """Whether others pinned something since all was counted."""
        self.read_at = 0.0
        self.known: dict[int, BitMap] | None = None
        """By size, the first bits of all that is pinned; None while nobody needs that."""
        self.rest_until = 0.0

    def lacks(self, count: int, weight: int) -> None:
        """So many more are lacking, or fewer; each counts as so many bytes."""
        with self.lock:
            self.lacking += count
            if self.bound is not None:
                self.bound += count * weight

    def forget(self) -> None:
        """Something may have gone: all is looked at again when it matters."""
        with self.lock:
            self.bound = self.known = None


class Accounts:
    """What this process knows of the owners that it has open pins of."""

    def __init__(self) -> None:
        self._by_owner: dict[int, Account] = {}
        self._lock = threading.Lock()

    def of(self, owner: int) -> Account:
        """The account of an owner."""
        with self._lock:
            if len(self._by_owner) >= _ACCOUNTS:
                # Whoever has an open pin has its account, too.
                self._by_owner.clear()
            return self._by_owner.setdefault(owner, Account(owner))


@dataclass(slots=True, eq=False)
class PostgresHold:
    """An open pin of a store in PostgreSQL.

    `token_hash` tells it from any other, `holder` which front end has it.
    """

    owner: int
    number: int
    token_hash: bytes
    holder: bytes
    account: Account
    written: int = 0
    """References in runs that were written since these were last put in order."""
    bits: BitMap = field(default_factory=BitMap)
    """The first bits of each of these."""

    @property
    def is_untidy(self) -> bool:
        """Whether most of what was written is there more than once."""
        return self.written > 2 * len(self.bits) + _SPARE

    def note(self, runs: Iterable[bytes]) -> None:
        """These were written."""
        for run in runs:
            self.written += len(run) // REFERENCE_SIZE
            self.bits.update(first_bits(run))

    def is_tidy_again(self) -> None:
        """What was written is in order now."""
        self.written, self.bits = 0, BitMap()


def lock_holds(connection: Connection[Any], holds: Iterable[PostgresHold]) -> None:
    """Have the rows of open pins, with others: whoever closes one of them waits from now on.

    It may take as long as one is being closed: so it is done before the lock of presence is taken.
    Raises: psycopg.Error.
    """
    if numbers := [hold.number for hold in holds]:
        connection.execute(_LOCK, (numbers,))


def write_held(cursor: Cursor, hold: PostgresHold, by_size: dict[int, set[bytes]]) -> None:
    """Have an open pin hold these. Where it is open no more nothing is held.

    Raises: psycopg.Error.
    """
    for size, names in sorted(by_size.items()):
        _write(cursor, hold, list(runs_of(names)), size)


def write_lacking(cursor: Cursor, hold: PostgresHold, names: Iterable[bytes]) -> None:
    """Remember that an open pin lacks these. Raises: psycopg.Error."""
    _write(cursor, hold, list(runs_of(names)), None)


def insert_runs(cursor: Cursor, pin: int, runs: Iterable[bytes], size: int | None) -> None:
    """Write runs of a pin whose row this transaction has; without a size they are lacking.

    Raises: psycopg.Error.
    """
    rows = [(pin, size is None, size, run[:32], run[-32:], run) for run in runs]
    if rows:
        cursor.executemany("INSERT INTO pin_runs VALUES (%s, %s, %s, %s, %s, %s)", rows)


def _write(cursor: Cursor, hold: PostgresHold, runs: list[bytes], size: int | None) -> None:
    if not runs:
        return
    values = {"pin": hold.number, "lacking": size is None, "size": size, "runs": array_of(runs)}
    cursor.execute(_INSERT, values)
    hold.note(runs)

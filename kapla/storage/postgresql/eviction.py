"""Making room: the oldest generation leaves, but for what must stay of it.

It is done in steps, each a transaction, by whoever has something to put: what has been done stands
in the database, so any front end can go on where another one left off, or was killed.

First a generation is marked. From then on what it has does not count as there for whoever puts or
holds, so it is put anew; whoever counted on it before has written so. Then those who have the store
open write what was read. Then what pins keep, and what was read, is copied into the youngest
generation, by ranges of references. At last the table is dropped.

What was read is spared only where enough else may go. If pins came to keep more meanwhile, the
generation is gone over once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from psycopg import errors
from pyroaring import BitMap

from eris.model import BlockSize
from kapla.storage.pins import Sizes
from kapla.storage.postgresql import counts, generations, locks, reads, statements
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.front import ABSENT_S, Front
from kapla.storage.postgresql.generations import Generations, check_epoch, next_epoch
from kapla.storage.postgresql.kept import kept_among
from kapla.storage.postgresql.lending import carry_lent
from kapla.storage.postgresql.reads import number_of
from kapla.storage.postgresql.schema import blocks_table
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Evictor", "Step"]

_log = logging.getLogger(__name__)

# References in a step: some milliseconds, while PUTs wait.
_BATCH: Final = 2048
# Blocks copied at a time: a statement with 16 MiB of large ones.
_COPIED: Final = 512
# Of a generation so many places are looked at, to see how much of it may go.
_SAMPLES: Final = 16
_SAMPLE: Final = 512
# A generation of which less than this part may go is not worth being written anew.
_LEAST: Final = 1 / 16
# Whoever drops a table waits so long for who reads it, and then not at all for a while: meanwhile
# nobody puts anything, and nobody else reads it. `pg_dump` reads all tables, for hours.
_LOCK_WAIT: Final = "200ms"
_NOT_AGAIN_S: Final = 5.0

_FIND: Final = "SELECT generation, epoch, kept_version, spares_read, copied FROM leaving"
_MARK: Final = """
INSERT INTO leaving SELECT %s, epoch, kept_version, %s, '', 0, 0 FROM state
"""
_BEHIND: Final = f"""
SELECT count(*) FROM fronts WHERE epoch < %s AND seen > now() - interval '{ABSENT_S} s'
"""
# Front ends that were killed, and will not come again.
_GONE: Final = "DELETE FROM fronts WHERE seen < now() - interval '1 day'"
_GO_ON: Final = "UPDATE leaving SET copied = %s, small = small + %s, large = large + %s"
_AGAIN: Final = """
UPDATE leaving SET copied = '', kept_version = state.kept_version FROM state
WHERE leaving.kept_version <> state.kept_version
"""
# What there is of a generation besides its blocks.
_ROWS: Final = (
    "generations WHERE number",
    "totals WHERE generation",
    "added WHERE generation",
    "lent_runs WHERE generation",
    "filters WHERE generation",
    "leaving WHERE generation",
)


class Step(Enum):
    """What became of a step."""

    MORE = "there is more to do"
    WAITING = "others are to do something first"
    DONE = "a generation is gone"
    ENOUGH = "there is room by now"
    NOTHING = "all of it must stay"


class _Leaving(NamedTuple):
    generation: int
    epoch: int
    kept_version: int
    spares_read: bool
    copied: bytes


class Evictor:
    """For one session, which may share the work with any others."""

    def __init__(self, session: Session, front: Front) -> None:
        self._session, self._front = session, front
        # What was read, as far as it matters to a generation that leaves.
        self._read: tuple[int, BitMap] | None = None

    def is_under_way(self) -> bool:
        """Whether a generation is leaving."""
        return bool(self._front.generations.leaving)

    def step(self, wanted: int) -> Step:
        """Do a little of it, until there is room for so many bytes. Raises: StoreUnavailable."""
        try:
            return self._front.with_generations(
                self._session, lambda known: self._step(known, wanted)
            )
        finally:
            self._front.refresh(self._session)

    def _step(self, known: Generations, wanted: int) -> Step:
        if known.leaving:
            # What was read here must be known before it is looked at.
            self._front.say(self._session)
            return self._alone(lambda cursor: self._go_on(cursor, known))
        return self._alone(lambda cursor: self._choose(cursor, known, wanted))

    def _alone(self, work: Callable[[Cursor], Step]) -> Step:
        try:
            with self._session.transaction() as cursor:
                # Others wait, and find it done.
                cursor.execute(locks.exclusive(locks.EVICTION).encode())
                return work(cursor)
        except errors.LockNotAvailable:
            _log.debug("A generation is being read, and is dropped later")
            self._front.drop_after = time.monotonic() + _NOT_AGAIN_S
            return Step.WAITING

    # --- which one

    def _choose(self, cursor: Cursor, known: Generations, wanted: int) -> Step:
        most = self._front.settings.max_size
        # Others may have made room while this one waited: then nothing more is to go.
        if most is None or self._front.measured(cursor) + wanted <= most:
            return Step.ENOUGH
        read = reads.load(cursor)
        for spared in (read, None):
            for number in reversed(known.full):
                # One in which nothing is gives back little, but is no loss.
                if self._part_that_may_go(cursor, number, spared, of_none=1.0) >= _LEAST:
                    return self._mark(cursor, known, number, spares_read=spared is not None)
            # What came last goes before what was read: it becomes full, and can leave.
            if self._part_that_may_go(cursor, known.filling, spared, of_none=0.0) >= _LEAST:
                generations.turn(cursor, known)
                return Step.MORE
        return Step.NOTHING

    def _part_that_may_go(
        self, cursor: Cursor, number: int, spared: BitMap | None, *, of_none: float
    ) -> float:
        """Which part of a generation may go, by a look at some of it.

        References are spread evenly. `of_none`: the part where there are no blocks.
        """
        table = _table(number)
        looked, staying = 0, 0
        for place in range(_SAMPLES):
            names = _names_after(cursor, table, bytes([place * 256 // _SAMPLES]), _SAMPLE)
            kept = kept_among(cursor, names, self._front.settings.pinned_quota)
            looked += len(names)
            staying += sum(
                name in kept or (spared is not None and number_of(name) in spared) for name in names
            )
        return 1 - staying / looked if looked else of_none

    def _mark(self, cursor: Cursor, known: Generations, number: int, *, spares_read: bool) -> Step:
        cursor.execute(locks.exclusive(locks.PRESENCE).encode())
        if generations.read(cursor) != known:
            raise generations.Outdated
        cursor.execute("UPDATE generations SET status = 'leaving' WHERE number = %s", (number,))
        next_epoch(cursor)
        cursor.execute(_MARK, (number, spares_read))
        return Step.MORE

    # --- what stays of it

    def _go_on(self, cursor: Cursor, known: Generations) -> Step:
        row = cursor.execute(_FIND).fetchone()
        if row is None:
            raise generations.Outdated
        leaving = _Leaving(*row)
        cursor.execute(_BEHIND, (leaving.epoch,))
        if cursor.fetchone() != (0,):
            return Step.WAITING
        table = _table(leaving.generation)
        names = _names_after(cursor, table, leaving.copied, _BATCH)
        if not names:
            return self._drop(cursor, leaving)
        check_epoch(cursor, known)
        staying = self._staying(cursor, leaving, names)
        sizes = self._copy(cursor, known, leaving.generation, staying)
        counts.add(cursor, known.filling, sizes)
        cursor.execute(_GO_ON, (names[-1], *sizes))
        return Step.MORE

    def _staying(self, cursor: Cursor, leaving: _Leaving, names: list[bytes]) -> list[bytes]:
        kept = kept_among(cursor, names, self._front.settings.pinned_quota)
        if not leaving.spares_read:
            return [name for name in names if name in kept]
        if self._read is None or self._read[0] != leaving.generation:
            self._read = leaving.generation, reads.load(cursor)
        read = self._read[1]
        return [name for name in names if name in kept or number_of(name) in read]

    def _copy(
        self, cursor: Cursor, known: Generations, source: int, names: Sequence[bytes]
    ) -> Sizes:
        """Copy blocks into the youngest generation; returns how many were not there."""
        statement = statements.copy(source, known.filling, known.full)
        small = large = 0
        carry_lent(cursor, names, known.filling)
        for start in range(0, len(names), _COPIED):
            part = names[start : start + _COPIED]
            asked = self._front.asked(known.full, part)
            cursor.execute(statement, asked | {"names": array_of(part)})
            lengths = [length for (length,) in cursor.fetchall()]
            large += lengths.count(BlockSize.LARGE)
            small += lengths.count(BlockSize.SMALL)
        return Sizes(small, large)

    # --- its end

    def _drop(self, cursor: Cursor, leaving: _Leaving) -> Step:
        if time.monotonic() < self._front.drop_after:
            return Step.WAITING
        # The lock first, as for all who read what they count on; then the table.
        cursor.execute(locks.exclusive(locks.PRESENCE).encode())
        cursor.execute(_AGAIN)
        if cursor.rowcount:
            return Step.MORE
        # What is being added up would come back as the total of a generation that is gone.
        cursor.execute(locks.exclusive(locks.FOLDING).encode())
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'".encode())
        gone = counts.read(cursor).get(leaving.generation, Sizes())
        cursor.execute(f"DROP TABLE {_table(leaving.generation)}".encode())
        for rows in _ROWS:
            cursor.execute(f"DELETE FROM {rows} = %s".encode(), (leaving.generation,))
        cursor.execute("UPDATE state SET dropped = now(), lent_version = lent_version + 1")
        next_epoch(cursor)
        cursor.execute(_GONE)
        self._read = None
        self._front.evicted_blocks += gone.small + gone.large
        return Step.DONE


def _table(number: int) -> str:
    return str(blocks_table(number).name)


def _names_after(cursor: Cursor, table: str, after: bytes, most: int) -> list[bytes]:
    cursor.execute(
        f"SELECT reference FROM {table} WHERE reference > %b ORDER BY reference LIMIT %s".encode(),
        (after, most),
    )
    return [name for (name,) in cursor.fetchall()]

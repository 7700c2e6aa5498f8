"""Making room: the oldest generation leaves, but for what must stay of it.

It is done in steps, each a transaction, by whoever has something to put: what has been done stands
in the database, so any front end can go on where another one left off, or was killed.

First a generation is marked. From then on what it has does not count as there for whoever puts or
holds, so it is put anew; whoever counted on it before has written so. Then those who have the store
open write what was read. Then what pins keep, and what was read, is copied into the youngest
generation, by ranges of references. At last the table is dropped.

What was read is spared only where enough else may go. If a pin comes to keep meanwhile what it did
not, whoever switches that sees what has gone, and copies what has not.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from psycopg import errors
from pyroaring import BitMap

from kapla.storage.pins import Sizes
from kapla.storage.postgresql import counts, generations, locks, reads
from kapla.storage.postgresql.front import ABSENT_S, Front
from kapla.storage.postgresql.generations import Generations, check_epoch, next_epoch
from kapla.storage.postgresql.kept import KeptAmong
from kapla.storage.postgresql.lending import carry_lent
from kapla.storage.postgresql.presence import copied
from kapla.storage.postgresql.quota import Quota
from kapla.storage.postgresql.reads import number_of
from kapla.storage.postgresql.schema import blocks_table
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Evictor", "Step"]

_log = logging.getLogger(__name__)

# References in a step: some milliseconds, while PUTs wait.
_BATCH: Final = 2048
# Blocks copied at a time: a statement with 16 MiB of large ones.
_COPIED: Final = 512
# So much is enough for a step.
_COPIED_BYTES: Final = 8 << 20
# For so many at once it is found out which must stay: with what that takes some 20 MiB.
_LOOKED_AHEAD: Final = 1 << 17
# So many of a generation are looked at, to see how much of it may go.
_SAMPLE: Final = 8192
# A generation of which less than this part may go is not worth being written anew.
_LEAST: Final = 1 / 16
# Whoever drops a table waits so long for who reads it, and then not at all for a while: meanwhile
# nobody puts anything, and nobody else reads it. `pg_dump` reads all tables, for hours.
_LOCK_WAIT: Final = "200ms"
_NOT_AGAIN_S: Final = 5.0

_FIND: Final = "SELECT generation, epoch, spares_read, copied FROM leaving"
_MARK: Final = """
INSERT INTO leaving SELECT %s, epoch, kept_version, %s, '', 0, 0 FROM state
"""
_BEHIND: Final = f"""
SELECT count(*) FROM fronts WHERE epoch < %s AND seen > now() - interval '{ABSENT_S} s'
    AND {locks.HAS_FRONT}
"""
# Front ends that were killed, and will not come again.
_GONE: Final = "DELETE FROM fronts WHERE seen < now() - interval '1 day'"
_GO_ON: Final = "UPDATE leaving SET copied = %s, small = small + %s, large = large + %s"
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
    spares_read: bool
    copied: bytes


class Evictor:
    """For one session, which may share the work with any others."""

    def __init__(self, session: Session, front: Front) -> None:
        self._session, self._front = session, front
        self._quota = Quota(lambda: front.settings)
        # All sessions of a front end go on with it.
        self._looks = front.looks

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
            return self._chosen(Step.ENOUGH)
        read = reads.load(cursor)
        for spared in (read, None):
            for number in (*reversed(known.full), known.filling):
                sample = self._sample(cursor, known.epoch, number)
                if not self._look(cursor, sample):
                    return Step.MORE
                is_full = number != known.filling
                if _part_that_may_go(sample, spared, is_full=is_full) < _LEAST:
                    continue
                if is_full:
                    self._mark(cursor, known, number, spares_read=spared is not None)
                else:
                    # What came last goes before what was read: it becomes full, and can leave.
                    generations.turn(cursor, known)
                return self._chosen(Step.MORE)
        return self._chosen(Step.NOTHING)

    def _chosen(self, step: Step) -> Step:
        """Whoever chooses next looks anew."""
        self._looks.samples = 0, {}
        return step

    def _sample(self, cursor: Cursor, epoch: int, number: int) -> KeptAmong:
        """Some references of a generation. They are spread evenly, so any will do."""
        if self._looks.samples[0] != epoch:
            self._looks.samples = epoch, {}
        known = self._looks.samples[1]
        if number not in known:
            table = _table(number)
            names = _names_after(cursor, table, random.randbytes(1), _SAMPLE)
            if len(names) < _SAMPLE:
                names = _names_after(cursor, table, b"", _SAMPLE)
            known[number] = KeptAmong(names)
        return known[number]

    def _mark(self, cursor: Cursor, known: Generations, number: int, *, spares_read: bool) -> None:
        cursor.execute(locks.exclusive(locks.PRESENCE).encode())
        if generations.read(cursor) != known:
            raise generations.Outdated
        cursor.execute("UPDATE generations SET status = 'leaving' WHERE number = %s", (number,))
        next_epoch(cursor)
        cursor.execute(_MARK, (number, spares_read))

    # --- what stays of it

    def _go_on(self, cursor: Cursor, known: Generations) -> Step:
        row = cursor.execute(_FIND).fetchone()
        if row is None:
            raise generations.Outdated
        leaving = _Leaving(*row)
        cursor.execute(_BEHIND, (leaving.epoch,))
        if cursor.fetchone() != (0,):
            return Step.WAITING
        ahead = self._look_ahead(cursor, leaving)
        names = ahead.following(leaving.copied, _BATCH)
        if not names:
            return self._drop(cursor, leaving)
        if not self._look(cursor, ahead):
            return Step.MORE
        check_epoch(cursor, known)
        staying = self._staying(cursor, leaving, names, ahead.kept)
        sizes, count = self._copy(cursor, known, leaving.generation, staying)
        counts.add(cursor, known.filling, sizes)
        cursor.execute(_GO_ON, (names[-1] if count == len(staying) else staying[count - 1], *sizes))
        return Step.MORE

    def _look(self, cursor: Cursor, among: KeptAmong) -> bool:
        """Look at some pins more; returns whether all is known."""
        return among.is_known or among.look(cursor, self._quota.full(cursor, self._front.accounts))

    def _look_ahead(self, cursor: Cursor, leaving: _Leaving) -> KeptAmong:
        """The next references of what leaves, with those that were copied last, or more."""
        number, ahead = leaving.generation, self._looks.ahead
        if ahead is None or ahead[0] != number or not ahead[1].covers(leaving.copied):
            table, start = _table(number), leaving.copied
            names = _names_after(cursor, table, start, _LOOKED_AHEAD)
            ahead = self._looks.ahead = number, KeptAmong(names, start)
        return ahead[1]

    def _staying(
        self, cursor: Cursor, leaving: _Leaving, names: list[bytes], kept: set[bytes]
    ) -> list[bytes]:
        if not leaving.spares_read:
            return [name for name in names if name in kept]
        if self._looks.read is None or self._looks.read[0] != leaving.generation:
            self._looks.read = leaving.generation, reads.load(cursor)
        read = self._looks.read[1]
        return [name for name in names if name in kept or number_of(name) in read]

    def _copy(
        self, cursor: Cursor, known: Generations, source: int, names: Sequence[bytes]
    ) -> tuple[Sizes, int]:
        """Copy the first of these blocks into the youngest generation, some MiB if there are more.

        Returns how many were not there, and how many of the names were gone through.
        """
        sizes, count = Sizes(), 0
        while count < len(names) and sizes.bytes < _COPIED_BYTES:
            part = names[count : count + _COPIED]
            more = copied(cursor, known, source, part, self._front.asked)
            sizes = Sizes(sizes.small + more.small, sizes.large + more.large)
            count += len(part)
        carry_lent(cursor, names[:count], known.filling)
        return sizes, count

    # --- its end

    def _drop(self, cursor: Cursor, leaving: _Leaving) -> Step:
        if time.monotonic() < self._front.drop_after:
            return Step.WAITING
        # The lock first, as for all who read what they count on; then the table.
        cursor.execute(locks.exclusive(locks.PRESENCE).encode())
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
        self._looks.read = self._looks.ahead = None
        self._front.evicted_blocks += gone.small + gone.large
        return Step.DONE


def _part_that_may_go(sample: KeptAmong, spared: BitMap | None, *, is_full: bool) -> float:
    """Which part of a generation may go, by a look at some of it."""
    if not sample.names:
        # One in which nothing is gives back little, but is no loss.
        return 1.0 if is_full else 0.0
    staying = sum(
        name in sample.kept or (spared is not None and number_of(name) in spared)
        for name in sample.names
    )
    return 1 - staying / len(sample.names)


def _table(number: int) -> str:
    return str(blocks_table(number).name)


def _names_after(cursor: Cursor, table: str, after: bytes, most: int) -> list[bytes]:
    cursor.execute(
        f"SELECT reference FROM {table} WHERE reference > %b ORDER BY reference LIMIT %s".encode(),
        (after, most),
    )
    return [name for (name,) in cursor.fetchall()]

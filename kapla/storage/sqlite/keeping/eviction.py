"""Making room: what nobody keeps and nobody reads goes, in batches, on the writer's connection.

A batch is one transaction. What was read goes to the end of it under new ids, as new blocks come;
all that was passed is deleted in runs. What is kept is stepped over and not touched. The index is
not cleaned here: `kapla.storage.sqlite.keeping.sweep` does it later.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from eris.model import BlockSize
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, transaction
from kapla.storage.sqlite.keeping.hand import MOST_AGAIN, Candidate, choose, is_before, runs_between
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.traffic import PinTraffic
from kapla.storage.sqlite.notes import Note, read_notes, write_notes
from kapla.storage.sqlite.numbering import Numbering
from kapla.storage.sqlite.rebuild import Rebuild
from kapla.storage.sqlite.recent import pack_prefixes
from kapla.storage.sqlite.schema import LOWEST_ID, prefix_of
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["Batch", "Evictor", "reference_of_row"]

_log = logging.getLogger(__name__)

_FIRST: Final = 0
_LAST: Final = 2**63 - 1
_REFERENCE: Final = 32
_SIZES: Final = frozenset(map(int, BlockSize))
# Looked at together; and passed together, in bytes: so much the file may grow for what is moved
# before what it is moved from is free.
_ROWS: Final = 128
_PASSED: Final = 256 * 1024
_PASSED_PART: Final = 32
_ROWS_NEAR_DAMAGE: Final = 8
# What goes with one transaction, for which a PUT, or who asks for what is not there, may wait.
_BATCH: Final = 4 * 1024 * 1024
_ALLOWANCE: Final = 4 * 1024 * 1024
_MOST_DAMAGES: Final = 8
_LONGEST_LEAP: Final = 2**24


@dataclass
class Batch:
    """What a transaction does, and what is true once it is committed."""

    at: int
    safe: Ids
    freed: int = 0
    is_end: bool = False
    allowance: int = _ALLOWANCE
    runs: list[tuple[int, int]] = field(default_factory=list)
    """Where the hand was, kept or not."""
    gone: dict[int, int] = field(default_factory=lambda: dict.fromkeys(map(int, BlockSize), 0))
    """How many of each size."""
    passed: list[tuple[int, int]] = field(default_factory=list)
    """All that was passed, as (id, size)."""
    moved: list[int] = field(default_factory=list)
    """The prefixes of what goes to the end."""
    new_ids: list[tuple[int, int]] = field(default_factory=list)
    """Of the same, as (new id, old id)."""
    loose: Ids = field(default_factory=Ids)
    """What pins have that do not keep it: they are told."""
    lost: dict[int, bytes | None] = field(default_factory=dict)
    """Of these, what goes, with its reference."""

    origin: dict[int, int] = field(default_factory=dict)
    """The ids before all this of what went to the end, perhaps more than once, by the new ones."""

    def move(self, pairs: list[tuple[int, int]]) -> None:
        """These go to the end: (new id, old id). What is there may go all the same, later."""
        self.new_ids += pairs
        for new, old in pairs:
            self.origin[new] = self.origin.get(old, old)
        self.loose.add([new for new, old in pairs if old in self.loose])

    def moved_loose(self) -> dict[int, tuple[int, int]]:
        """Of these, what is at the end in the end: (new id, size) by the old id."""
        sizes, lost = dict(self.passed), self.lost_before()
        moved = {
            self.origin[new]: (new, sizes[old]) for new, old in self.new_ids if old in self.loose
        }
        return {old: place for old, place in moved.items() if old not in lost}

    def lost_before(self) -> dict[int, bytes | None]:
        """Of these, what goes, by the ids that pins know."""
        return {self.origin.get(block_id, block_id): name for block_id, name in self.lost.items()}

    def go_on(self, after: int) -> None:
        """Have the hand come after this id."""
        self.runs.append((self.at, after))
        self.at = after + 1

    def leap(self, to: int, last: int) -> None:
        """Have the hand leave one side of the ids, whose last one is given, for the other."""
        if last >= self.at:
            self.runs.append((self.at, last))
        self.at = to


class Evictor:
    """Evicts on the writer's connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Database,
        numbering: Numbering,
        rebuild: Callable[[], Rebuild | None],
        pins: Callable[[], PinTraffic],
    ) -> None:
        self._connection = connection
        self._database = database
        self._numbering = numbering
        self._rebuild = rebuild
        self._pins = pins
        self._hand = _FIRST
        self._safe = Ids()
        # Where the file is damaged, what can neither be read nor deleted.
        self._stuck = Ids()
        self._rows = _ROWS
        self.stale = read_notes(connection).get(Note.STALE_PLACES, 0)
        """Places of the index that lead to nothing any more; some may be counted that do not."""

    def evict(self, wanted: int) -> bool:
        """Have blocks of so many bytes go, or of some; returns whether any went.

        Raises: sqlite3.Error.
        """
        for _ in range(_MOST_DAMAGES):
            try:
                batch = self._evict(min(wanted, _BATCH))
            except sqlite3.Error as error:
                if not (is_damage(error) or is_bad_disk(error)):
                    raise
                self._go_around(error)
            else:
                self._rows = min(_ROWS, 4 * self._rows)
                return batch.freed > 0
        return False

    def _evict(self, wanted: int) -> Batch:
        with self._database.keeping.lock, self._announced():
            batch = self._begin()
            with self._renumbered(batch), transaction(self._connection):
                while batch.freed < wanted and not batch.is_end:
                    self._pass_some(batch, wanted - batch.freed)
                    if self._rows < _ROWS and batch.freed:
                        break  # damage is near, and would undo this too
                if batch.passed:
                    self._write(batch)
            self._confirm(batch)
        return batch

    @contextmanager
    def _announced(self) -> Iterator[None]:
        """Whoever finds nothing meanwhile looks again: a block may be on its way to the end."""
        self._database.evictions += 1
        try:
            yield
        finally:
            self._database.evictions += 1

    def _begin(self) -> Batch:
        safe = self._database.keeping.safe() | self._stuck
        released = (self._safe - safe).first()
        if released is not None and is_before(released, self._hand):
            self._hand = released
        self._safe = safe
        return Batch(self._hand, safe, loose=self._database.keeping.loose())

    @contextmanager
    def _renumbered(self, batch: Batch) -> Iterator[None]:
        first_id = self._numbering.next
        try:
            yield
        except BaseException:
            self._numbering.next = first_id
            self._database.recent.withdraw(first_id, batch.moved)
            raise

    def _pass_some(self, batch: Batch, wanted: int) -> None:
        rows = self._next_rows(batch)
        candidates = [Candidate(row[0], row[2] or 0) for row in rows if row[0] not in batch.safe]
        del candidates[self._fit(candidates) :]
        reads = self._database.keeping.reads
        choice = choose(candidates, Ids() if reads is None else reads, wanted, batch.allowance)
        again = {block_id for block_id, _ in choice.again}
        self._move([row for row in rows if row[0] in again], batch)
        passed = sorted(choice.gone + choice.again)
        ids = [block_id for block_id, _ in passed]
        self._connection.executemany(statements().delete_run, runs_between(ids, batch.safe))
        batch.passed += passed
        if batch.loose:
            gone = {block_id for block_id, _ in choice.gone if block_id in batch.loose}
            batch.lost |= {row[0]: reference_of_row(row) for row in rows if row[0] in gone}
        batch.freed += choice.freed
        saved = sum(size for _, size in choice.again)
        batch.allowance += MOST_AGAIN * choice.freed - saved
        for _, size in choice.gone:
            if size in batch.gone:
                batch.gone[size] += 1
        if ids:
            batch.go_on(ids[-1])

    def _fit(self, candidates: list[Candidate]) -> int:
        """How many of these are passed together."""
        room = min(_PASSED, (self._database.settings.max_size or _PASSED) // _PASSED_PART)
        for count, (_, size) in enumerate(candidates):
            room -= size
            if room < 0:
                return max(1, count)
        return len(candidates)

    def _next_rows(self, batch: Batch) -> list[tuple[Any, ...]]:
        """Rows from the hand on, at least one of which may go; none at the end."""
        while True:
            start = batch.safe.next_gap(batch.at)
            last = _LAST if start >= 0 else -1
            # SQLAlchemy's LIMIT has an offset too.
            values = (start, last, self._rows, 0)
            rows = self._connection.execute(statements().next_rows, values).fetchall()
            if any(row[0] not in batch.safe for row in rows):
                return rows
            if rows:
                batch.go_on(rows[-1][0])
            elif start >= 0:
                batch.leap(LOWEST_ID, self._numbering.highest)
            else:
                is_turned = self._numbering.is_turned
                batch.leap(
                    self._numbering.next, self._numbering.next - 1 if is_turned else start - 1
                )
                batch.is_end = True
                return []

    def _move(self, rows: list[tuple[Any, ...]], batch: Batch) -> None:
        """Put these at the end, under new ids."""
        pairs: list[tuple[int, int]] = []
        for block_id, reference, size in rows:
            # Damage may have made anything of it: then it just goes.
            if reference_of_row((block_id, reference)) is not None and size in _SIZES:
                pairs.append((self._numbering.next, block_id))
                self._numbering.next += 1
                batch.moved.append(prefix_of(reference))
            elif size in batch.gone:
                batch.gone[size] += 1
        self._connection.executemany(statements().move_block, pairs)
        batch.move(pairs)

    def _write(self, batch: Batch) -> None:
        texts, connection = statements(), self._connection
        first_id = self._numbering.next - len(batch.moved)
        if batch.moved:
            connection.execute(texts.log, (first_id, pack_prefixes(batch.moved)))
        for size, count in batch.gone.items():
            connection.execute(texts.count, (-count, size))
        stale: dict[Note, int | None] = {Note.STALE_PLACES: self.stale + len(batch.passed)}
        write_notes(connection, stale | self._numbering.notes())
        rebuild = self._rebuild()
        if rebuild is not None:
            rebuild.note_gone(batch.passed)
        if batch.lost:
            self._pins().lost(batch.lost_before(), dict(batch.passed))
        if moved := batch.moved_loose():
            self._pins().move(moved)
        if batch.moved:
            # Before the commit, after which nothing may fail any more.
            self._database.recent.add(first_id, batch.moved)

    def _confirm(self, batch: Batch) -> None:
        database, keeping = self._database, self._database.keeping
        self._hand = batch.at
        gone = Ids()
        for first, last in batch.runs:
            if keeping.reads is not None:
                keeping.reads.drop_run(first, last)
            gone.unite(Ids.run(first, last) - batch.safe)
        database.gone.unite(gone)
        lent = keeping.lent
        lent.add([new for new, old in batch.new_ids if batch.origin[new] in lent])
        self._pins().lent_cache.moved(batch.origin.items())
        self._pins().lent_cache.passed(gone)
        if moved := batch.moved_loose():
            self._pins().moved(moved, is_locked=True)
        self.stale += len(batch.passed)
        database.evicted_blocks += sum(batch.gone.values())
        if database.totals is not None:
            for size, count in batch.gone.items():
                database.totals[size] -= count
        rebuild = self._rebuild()
        if rebuild is not None:
            rebuild.confirm_gone(batch.passed)

    def _go_around(self, error: sqlite3.Error) -> None:
        """Have the hand pass a place that is damaged: first with care, then by a leap."""
        self._database.tell_damage(error)
        if self._rows > _ROWS_NEAR_DAMAGE:
            self._rows = _ROWS_NEAR_DAMAGE
            return
        start = self._safe.next_gap(self._hand)
        last = _LAST if start >= 0 else -1
        leap = _ROWS_NEAR_DAMAGE
        while start + leap <= last and leap < _LONGEST_LEAP:
            values = (start + leap, last, 1, 0)
            try:
                self._connection.execute(statements().next_rows, values).fetchone()
                break
            except sqlite3.Error:
                leap *= 2
        self._stuck.unite(Ids.run(start, min(start + leap, last + 1) - 1))


def reference_of_row(row: Sequence[Any]) -> bytes | None:
    """The reference in a row that begins with id and reference, if it can be one."""
    reference = row[1]
    is_one = isinstance(reference, bytes) and len(reference) == _REFERENCE
    return reference if is_one else None

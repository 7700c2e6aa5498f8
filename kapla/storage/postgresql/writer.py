"""Writing blocks: one session, in one thread. What comes together is kept in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from psycopg import Connection

from eris.errors import StoreFull, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.storage.pins import Hold, Sizes
from kapla.storage.port import Promise, PutResult, StoreSettings
from kapla.storage.postgresql import counts, locks, statements
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.dropping import Suspect, drop_bad
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.generations import Generations, Outdated
from kapla.storage.postgresql.holds import PostgresHold, lock_holds
from kapla.storage.postgresql.reader import PostgresReader
from kapla.storage.postgresql.room import Room
from kapla.storage.postgresql.session import Cursor
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["PostgresWriter"]

_log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
# Bytes of a pin's run for each reference that it lacks.
_LACKING_BYTES: Final = 40

_LOCK: Final = locks.shared(locks.PRESENCE).encode()

_Blocks = list[tuple[Reference, bytes]]


class PostgresWriter(PostgresReader):
    """Writes blocks."""

    def __init__(self, front: Front) -> None:
        super().__init__(front, "kaplad writer")
        self._room = Room(self.session, front)

    def put_many(
        self, blocks: dict[Reference, bytes], promises: Sequence[Promise] = ()
    ) -> PutResult:
        """Keep blocks, all that find room or none; durable when it returns.

        Raises: StoreUnavailable.
        """
        refused = self._refused(blocks)
        if refused:
            kept = {name: block for name, block in blocks.items() if name not in refused}
            return PutResult(self._put_all(kept, promises, refused), refused)
        return PutResult(self._put_all(blocks, promises, refused), refused)

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> set[Reference]:
        """Hold what is there of these; an open pin lacks the others. Returns what is there.

        Raises: StoreFull, StoreUnavailable.
        """
        found = self.hold_found(references, hold)
        missing = [name for name in references if name not in found]
        room = self._room.make(len(missing) * _LACKING_BYTES)
        if room is not None and room < len(missing) * _LACKING_BYTES:
            raise StoreFull(self.why_full())
        self.pins.want(number, hold, missing)
        return found

    def why_full(self) -> str:
        """What stands in the way of a block that was refused, and what can be done."""
        return self._room.why_full()

    def settle(self, settings: StoreSettings) -> None:
        """Let other settings hold from now on, for all sessions; the URL stays what it was."""
        assert isinstance(settings, PostgresSettings)
        self.front.settings = settings

    def drop_bad(self, suspects: Sequence[object]) -> int:
        """Drop those of a Look's suspects that are bad. Raises: StoreUnavailable."""
        bad = drop_bad(self.session, self.front, cast(Sequence[Suspect], suspects))
        self.pins.miss(bad)
        return len(bad)

    def scrub_place(self) -> tuple[int | None, int | None]:
        """Nowhere: there is no look at all blocks in the background."""
        return None, None

    def note_scrub(self, after: int | None, began: int | None) -> None:
        """See `scrub_place`."""

    def chore(self, *, is_idle: bool) -> float | None:
        """Look at what others did, and go on with making room."""
        try:
            self.front.tick(self.session)
            self.pins.chore()
            # Both, whichever there is.
            if self._room.chore() | self.front.learn(self.session):
                return 0.0
        except StoreUnavailable as error:
            # Whoever asks for something is told.
            _log.debug("The database was not looked at: %s", error)
        return _IDLE_S

    def _refused(self, blocks: dict[Reference, bytes]) -> frozenset[Reference]:
        """Which of these find no room. What is there needs none."""
        weights = {name: _weight(block) for name, block in blocks.items()}
        room = self._room.make(sum(weights.values()))
        if room is None or room >= sum(weights.values()):
            return frozenset()
        known = self.find_many(list(blocks))
        refused = set()
        for name, weight in weights.items():
            if name not in known:
                room -= weight
                if room < 0:
                    refused.add(name)
        return frozenset(refused)

    def _put_all(
        self,
        blocks: dict[Reference, bytes],
        promises: Sequence[Promise],
        refused: frozenset[Reference],
    ) -> int:
        """Returns how many were new."""
        # In order: two who put the same blocks wait for each other one after the other.
        ordered = sorted(blocks.items())
        parts = [[item for item in ordered if len(item[1]) == size] for size in BlockSize]
        into, sizes = self.front.with_generations(
            self.session, lambda known: self._put(known, parts, promises, refused)
        )
        self.front.count(into, sizes)
        if any(promise.hold is None for promise in promises):
            self.front.lent.look_soon()
        self.front.turn(self.session)
        added = sum(sizes)
        if added < len(blocks):
            # Some were there: whoever puts them wants them.
            self._note(blocks)
        return added

    def _put(
        self,
        known: Generations,
        parts: Sequence[_Blocks],
        promises: Sequence[Promise],
        refused: frozenset[Reference],
    ) -> tuple[int, Sizes]:
        if not promises:
            # All that is sent at once is one transaction.
            return known.filling, self._insert(known, parts)
        with self.session.transaction() as cursor:
            promised = self.pins.promised(cursor, promises, refused)
            sizes = self._insert(known, parts, promised.holds)
            self.pins.fulfil(cursor, promised, known.filling)
        return known.filling, sizes

    def _insert(
        self, known: Generations, parts: Sequence[_Blocks], holds: Iterable[PostgresHold] = ()
    ) -> Sizes:
        """Raises: Outdated; then nothing was put."""
        connection = self.session.connection
        with connection.pipeline():
            # First: while it waits, nobody is to wait for this one.
            lock_holds(connection, holds)
            connection.execute(_LOCK)
            # A statement of its own sees what was changed while the lock was waited for.
            done = [self._insert_part(connection, known, part) if part else None for part in parts]
        added = []
        for cursor in done:
            epoch, new = cursor.fetchone() if cursor is not None else (known.epoch, 0)  # type: ignore[misc]
            if epoch != known.epoch:
                raise Outdated
            added.append(new)
        return Sizes(*added)

    def _insert_part(
        self, connection: Connection[Any], known: Generations, part: _Blocks
    ) -> Cursor:
        names, blocks = zip(*part, strict=True)
        is_large = len(blocks[0]) == BlockSize.LARGE
        values = self.front.asked(known.full, names) | {
            "names": array_of(names),
            "blocks": array_of(blocks),
            "epoch": known.epoch,
            "small": int(not is_large),
            "large": int(is_large),
        }
        statement = statements.put(known.filling, known.full)
        # Not over a new one, if it was lost just now: that has no lock.
        return connection.execute(statement, values, binary=True)


def _weight(block: bytes) -> int:
    is_large = len(block) == BlockSize.LARGE
    return counts.weight_of(Sizes(not is_large, is_large))

"""What the sessions of one front end share: caches, and what it read. It may be lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from psycopg import errors

from eris.errors import StoreUnavailable
from kapla.storage.pins import Sizes
from kapla.storage.postgresql import counts, generations, locks, reads
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.filters import Asked, Filters
from kapla.storage.postgresql.generations import Generations, Outdated
from kapla.storage.postgresql.holds import Accounts
from kapla.storage.postgresql.kept import Looks
from kapla.storage.postgresql.lent import KnownLent
from kapla.storage.postgresql.reads import Reads
from kapla.storage.postgresql.session import Cursor, Session
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.sharing import Sharing
from kapla.storage.postgresql.statements import everywhere, names_in

__all__ = ["ABSENT_S", "Front"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_TRIES: Final = 10

ABSENT_S: Final = 30
"""Who does not say for so long that he is there is not waited for."""

_LOOK_S: Final = 1.0
_SAY_S: Final = 10.0
_WRITE_READS_S: Final = 30.0
_FOLD_S: Final = 5.0
_MEASURE_S: Final = 5.0

_SAY: Final = "UPDATE fronts SET epoch = greatest(epoch, %s), seen = now() WHERE number = %s"
_ALIVE: Final = "UPDATE fronts SET seen = now() WHERE number = %s"
_FIRST: Final = "INSERT INTO fronts (epoch) VALUES (%s) RETURNING number"


class Front:
    """One front end of a database."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.settings = settings
        self.evicted_blocks = 0
        """How many made room for others, as far as this front end saw to it."""
        self.drop_after = 0.0
        """When it is tried again to drop a table that somebody reads."""
        self.reads = Reads()
        self.filters = Filters()
        self.generations = Generations(0, 0)
        """As it was when it was last looked at."""
        self.counts: dict[int, Sizes] = {}
        """Blocks of each generation, by number."""
        self.accounts = Accounts()
        """What owners have pinned."""
        self.lent = KnownLent()
        """What may be lent."""
        self.looks = Looks()
        """What must stay, as far as somebody who made room looked."""
        self.sharing = Sharing()
        """What the pins have."""
        self.lent_without = 0
        """References that are lent without a pin, each as often as that was said."""
        self._number: int | None = None
        self._bytes, self._counted = 0, Sizes()
        self._lock = threading.Lock()
        self._learning = threading.Lock()
        self._trouble: str | None = None
        self._is_damage_told = False
        self._due = dict.fromkeys(("look", "say", "reads", "fold", "measure", "pins", "kept"), 0.0)

    # --- the generations

    def refresh(self, session: Session) -> Generations:
        """Look which there are. Raises: StoreUnavailable."""
        before = self.generations.epoch
        found = session.retried(generations.read)
        with self._lock:
            is_older = found.epoch < before
            if found.epoch > self.generations.epoch or (is_older and found != self.generations):
                if is_older:
                    self._forget()
                self._is_changed(self.generations, found)
                self.generations = found
            return self.generations

    def _forget(self) -> None:
        """A standby took over that had not got all, or an older copy stands in its place."""
        _log.warning("The database has lost what came last: what was known of it is looked at anew")
        self.filters = Filters()

    def _is_changed(self, before: Generations, now: Generations) -> None:
        # Who makes room waits for what was read here.
        self._due["say"] = self._due["reads"] = self._due["measure"] = 0.0
        if before.filling != now.filling:
            # Older reads will be forgotten: what is read again is told again.
            self.reads.forget(now.filling)

    def with_generations(self, session: Session, work: Callable[[Generations], _T]) -> _T:
        """Do something that names generations, again where their list turns out to be another one.

        `work` may be done twice, and raises Outdated where it sees that. Raises: StoreUnavailable.
        """
        for _ in range(_TRIES):
            known = self.generations
            try:
                return session.again(partial(work, known))
            except (Outdated, errors.UndefinedTable):
                self.refresh(session)
        raise StoreUnavailable("the list of the store's generations does not come to rest")

    def asked(self, numbers: Sequence[int], names: Sequence[bytes]) -> dict[str, Any]:
        """Parameters that look for sorted names in some generations, where they may be."""
        if self.filters.is_empty:
            return everywhere(numbers, names)
        array, asked, values = array_of(names), Asked(names), {}
        for number in numbers:
            there = self.filters.may_have(number, asked)
            values[names_in(number)] = array if there is names else array_of(there)
        return values

    def turn(self, session: Session) -> None:
        """Begin another generation, if the youngest is large enough. Raises: StoreUnavailable."""
        known = self.generations
        filled = counts.weight_of(self.counts.get(known.filling, Sizes()))
        if filled >= self.settings.generation_size(self.stored):
            self.begin_another(session, known)

    def begin_another(self, session: Session, known: Generations) -> None:
        """Begin another generation. Raises: StoreUnavailable."""
        session.retried(lambda cursor: generations.turn(cursor, known))
        self.refresh(session)
        if self.settings.evicts:
            session.retried(reads.forget)

    def tell_damage(self, error: StoreUnavailable) -> None:
        """Some block cannot be read: said once, as peers may ask for it again and again."""
        if not self._is_damage_told:
            self._is_damage_told = True
            _log.error("Some blocks cannot be read and count as not there: %s", error)

    # --- how much there is

    def count(self, generation: int, sizes: Sizes) -> None:
        """So many blocks more, or less."""
        with self._lock:
            before = self.counts.get(generation, Sizes())
            self.counts[generation] = Sizes(before.small + sizes.small, before.large + sizes.large)

    @property
    def total(self) -> Sizes:
        """All blocks."""
        with self._lock:
            found = list(self.counts.values())
        return Sizes(sum(one.small for one in found), sum(one.large for one in found))

    @property
    def stored(self) -> int:
        """About how many bytes all of it takes."""
        return max(0, self._bytes + counts.weight_of(self.total) - counts.weight_of(self._counted))

    def measure(self, session: Session) -> int:
        """How many bytes all of it takes. Raises: StoreUnavailable."""
        return session.retried(self.measured)

    def measured(self, cursor: Cursor) -> int:
        """How many bytes all of it takes, in a transaction. Raises: psycopg.Error."""
        found, by_generation = counts.measure(cursor), counts.read(cursor)
        with self._lock:
            self.counts = by_generation
        self._bytes, self._counted = found, self.total
        return found

    # --- what is done now and then

    def tick(self, session: Session) -> None:
        """Look at what others did, and say what was read here. Raises: StoreUnavailable."""
        try:
            self._tick(session)
        except StoreUnavailable as error:
            self._tell(str(error))
            raise

    def _tick(self, session: Session) -> None:
        if self.is_due("look", _LOOK_S):
            self.refresh(session)
        if self.is_due("measure", _MEASURE_S):
            self.measure(session)
        if self.is_due("fold", _FOLD_S):
            session.retried(counts.fold)
            # It was written to.
            self._tell(None)
        if self.settings.evicts and self.is_due("say", _SAY_S):
            self._say_now(session)

    def _tell(self, trouble: str | None) -> None:
        """Say once what the matter is, and that it is over; requests may be few."""
        with self._lock:
            before, self._trouble = self._trouble, trouble
        if trouble == before:
            return
        if trouble is not None:
            _log.warning("For now the store cannot be used as it should: %s", trouble)
        else:
            _log.info("The store can be used again")

    def learn(self, session: Session) -> bool:
        """Go on with what is to be known of full generations; returns whether there is more.

        Raises: StoreUnavailable.
        """
        if not self._learning.acquire(blocking=False):
            return False
        try:
            return self.with_generations(session, lambda now: self.filters.step(session, now))
        finally:
            self._learning.release()

    def _say_now(self, session: Session) -> None:
        if self.is_due("reads", _WRITE_READS_S):
            try:
                self.say(session)
            except StoreUnavailable:
                self._due["say"] = self._due["reads"] = 0.0
                raise
        else:
            session.retried(self._say_alive)

    def say(self, session: Session) -> None:
        """Say that this front end is there, and what it read until now.

        Raises: StoreUnavailable.
        """
        # In this order: what is read later belongs to a later list.
        known = self.generations
        numbers = self.reads.unwritten()

        def work(cursor: Cursor) -> int:
            reads.write(cursor, numbers, known.filling)
            return self._say(cursor, known.epoch)

        self._number = session.retried(work)
        self.reads.written(numbers, known.filling)

    def leave(self, session: Session) -> None:
        """Say that this front end is there no more, and what it read. Raises: StoreUnavailable."""
        if self.settings.evicts:
            self.say(session)
            number = self._number
            session.retried(
                lambda cursor: cursor.execute("DELETE FROM fronts WHERE number = %s", (number,))
            )

    def _say(self, cursor: Cursor, epoch: int) -> int:
        number = self._noted(cursor, epoch)
        _show(cursor, number)
        return number

    def _say_alive(self, cursor: Cursor) -> None:
        """Not the epoch: what was read before that is to be written first."""
        if self._number is not None:
            cursor.execute(_ALIVE, (self._number,))
            _show(cursor, self._number)

    def _noted(self, cursor: Cursor, epoch: int) -> int:
        if self._number is not None:
            cursor.execute(_SAY, (epoch, self._number))
            if cursor.rowcount:
                return self._number
        # The first time; or others took it for gone.
        row = cursor.execute(_FIRST, (epoch,)).fetchone()
        assert row is not None
        return int(row[0])

    def is_due(self, what: str, every_s: float) -> bool:
        """Whether it is time for something, which is done then by whoever asks."""
        with self._lock:
            now = time.monotonic()
            if now < self._due[what]:
                return False
            self._due[what] = now + every_s
            return True


def _show(cursor: Cursor, number: int) -> None:
    """By a session that ends with this process, so that nobody waits for one that was killed.

    Again each time, as it may be another session, or another connection of the same.
    """
    cursor.execute(locks.IN_FRONT, locks.of_front(number))

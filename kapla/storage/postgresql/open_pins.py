"""Open pins, as the database has them: begun, leased, gone on with elsewhere, given up.

Whatever an open pin holds stands in its runs, so that any front end that makes room sees it. It is
leased by the front end that has it, which says again and again that it is there; a lease that ended
ends the pin. By the hash of its token another front end finds it and has it from then on: whoever
had it before finds that out when he wants to close it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from eris.model import BlockSize, Reference
from kapla.errors import PinNotFound
from kapla.storage.pins import Hold
from kapla.storage.port import Promise
from kapla.storage.postgresql.closing import put_in_order
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.holds import PostgresHold, lock_holds, write_held, write_lacking
from kapla.storage.postgresql.lending import lend
from kapla.storage.postgresql.presence import look_up
from kapla.storage.postgresql.quota import LACKING_BYTES, Quota
from kapla.storage.postgresql.runs import runs_of
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["LEASE_S", "OpenPins", "Promised", "own"]

LEASE_S: Final = 600
"""For so long an open pin outlives a front end that says nothing any more."""

_EXPIRED_AT_ONCE: Final = 16

_LEASE: Final = f"now() + interval '{LEASE_S} s'"
# Done again after a connection was lost: the first row may stand there.
_FORGET: Final = "DELETE FROM pins WHERE owner = %s AND name IS NULL AND token_hash = %s"
_BEGIN: Final = f"""
INSERT INTO pins (owner, keep, lend, created, token_hash, holder, leased_until)
VALUES (%s, true, false, %s, %s, %s, {_LEASE}) RETURNING number
"""
_ATTACH: Final = f"""
UPDATE pins SET holder = %s, leased_until = {_LEASE}
WHERE owner = %s AND name IS NULL AND token_hash = %s RETURNING number
"""
_RENEW: Final = f"""
UPDATE pins SET leased_until = {_LEASE}
WHERE number = ANY(%s::bigint[]) AND name IS NULL AND holder = %s RETURNING number
"""
_MINE: Final = "SELECT FROM pins WHERE number = %s AND name IS NULL AND holder = %s FOR UPDATE"
_EXPIRED: Final = f"""
SELECT number FROM pins WHERE name IS NULL AND leased_until < now() LIMIT {_EXPIRED_AT_ONCE}
"""
_END_EXPIRED: Final = """
DELETE FROM pins WHERE number = %s AND name IS NULL AND leased_until < now()
"""


class Promised(NamedTuple):
    """What is to be held, by whom and by size, and what is to be lent."""

    holds: dict[PostgresHold, dict[int, set[bytes]]]
    lent: set[bytes]


class OpenPins:
    """The open pins of a front end, by one of its sessions."""

    def __init__(self, session: Session, front: Front) -> None:
        self._session = session
        self.quota = Quota(lambda: front.settings)
        """What limits them."""
        self._accounts, self._asked = front.accounts, front.asked
        self._holder = os.urandom(16)
        self._mine: dict[int, PostgresHold] = {}

    def begin(self, owner: int, wants: int | None, token: bytes) -> tuple[int, PostgresHold, int]:
        """Open a pin: its number, what it holds, and the bytes of content there is room for.

        Raises: StoreFull, if that is less than `wants`; StoreUnavailable.
        """
        account, key = self._accounts.of(owner), _hash(token)

        def begun(cursor: Cursor) -> tuple[int, int]:
            if wants is not None:
                self.quota.check_room(cursor, account, wants)
            cursor.execute(_FORGET, (owner, key))
            row = cursor.execute(_BEGIN, (owner, int(time.time()), key, self._holder)).fetchone()
            assert row is not None
            return row[0], self.quota.room(cursor, account)

        number, room = self._session.retried(begun)
        return number, self._have(PostgresHold(owner, number, key, self._holder, account)), room

    def attach(self, owner: int, token: bytes) -> tuple[int, PostgresHold, int]:
        """Go on with a pin that was opened elsewhere, or here; see `begin`.

        Raises: PinNotFound, if there is none with this token, or it is somebody else's;
        StoreUnavailable.
        """
        account, key = self._accounts.of(owner), _hash(token)

        def attached(cursor: Cursor) -> tuple[int, int]:
            row = cursor.execute(_ATTACH, (self._holder, owner, key)).fetchone()
            if row is None:
                raise PinNotFound("there is no open pin to go on with")
            return row[0], self.quota.room(cursor, account)

        number, room = self._session.retried(attached)
        return number, self._have(PostgresHold(owner, number, key, self._holder, account)), room

    def promised(
        self,
        cursor: Cursor,
        promises: Sequence[Promise],
        refused: frozenset[Reference] = frozenset(),
    ) -> Promised:
        """What is promised of a PUT, in its transaction, before its blocks are put.

        `refused`: what found no room. A promise of what may not be held gets its error.
        Raises: psycopg.Error.
        """
        holds: dict[PostgresHold, dict[int, set[bytes]]] = {}
        lent = set[bytes]()
        for promise in promises:
            by_size = _sorted_out(promise, refused)
            promise.error = None
            if promise.hold is None:
                if self.quota.limits.lend_cache:
                    lent.update(*by_size.values())
                continue
            hold = own(promise.hold)
            promise.error = self.quota.take(cursor, hold.account, by_size)
            if promise.error is None:
                together = holds.setdefault(hold, {})
                for size, names in by_size.items():
                    together.setdefault(size, set()).update(names)
        return Promised(holds, lent)

    @staticmethod
    def fulfil(cursor: Cursor, promised: Promised, generation: int) -> None:
        """Hold or lend this, now that its blocks were put and the rows of the pins are locked.

        `generation`: the one that new blocks go into. Raises: psycopg.Error.
        """
        for hold, by_size in promised.holds.items():
            write_held(cursor, hold, by_size)
        lend(cursor, generation, runs_of(promised.lent))

    def hold_found(self, cursor: Cursor, hold: Hold, names: Sequence[Reference]) -> set[Reference]:
        """Tell which of these are there, in a transaction; from its end on they are held.

        Raises: StoreFull, if that is more than the owner may pin; psycopg.Error.
        """
        mine = own(hold)
        # Before the lock of presence: all of this may take long.
        self._tidy(cursor, mine)
        self.quota.look(cursor, mine.account, len(names) * BlockSize.LARGE)
        lock_holds(cursor.connection, [mine])
        sizes = look_up(cursor, names, self._asked)
        by_size = _by_size(sizes)
        error = self.quota.take(cursor, mine.account, by_size)
        if error is not None:
            raise error
        write_held(cursor, mine, by_size)
        return set(sizes)

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> None:
        """An open pin lacks these, which are not there. Raises: StoreFull, StoreUnavailable."""
        mine = own(hold)

        def wanted(cursor: Cursor) -> None:
            self.quota.check_lacking(cursor, mine.account, len(references))
            write_lacking(cursor, mine, references)
            mine.account.lacks(len(references), LACKING_BYTES)

        if references:
            self._session.retried(wanted)

    def renew(self) -> None:
        """Say that this front end is there, and has its pins. Raises: StoreUnavailable."""
        numbers = list(self._mine)
        if numbers:
            rows = self._session.retried(
                lambda cursor: cursor.execute(_RENEW, (numbers, self._holder)).fetchall()
            )
            there = {row[0] for row in rows}
            for number in numbers:
                if number not in there:
                    # Another front end has it, or had it; or this one was away for too long.
                    self._has_no_more(number)

    def tidy(self) -> None:
        """Put in order what was written more than once. Raises: StoreUnavailable."""
        for hold in [hold for hold in self._mine.values() if hold.is_untidy]:
            self._session.retried(partial(self._tidy, hold=hold))

    def end_expired(self) -> bool:
        """End some of what others left; returns whether there may be more.

        Raises: StoreUnavailable.
        """
        rows = self._session.retried(lambda cursor: cursor.execute(_EXPIRED).fetchall())
        for (number,) in rows:
            # Each by itself: its runs may be many.
            self._session.retried(partial(_end_expired, number=number))
        return len(rows) == _EXPIRED_AT_ONCE

    def _has_no_more(self, number: int) -> None:
        self._mine.pop(number, None)

    def _have(self, hold: PostgresHold) -> PostgresHold:
        self._mine[hold.number] = hold
        return hold

    @staticmethod
    def _lock(cursor: Cursor, hold: PostgresHold) -> bool:
        """Have the row of an open pin; returns whether it is there, and this front end's."""
        return cursor.execute(_MINE, (hold.number, hold.holder)).fetchone() is not None

    def _tidy(self, cursor: Cursor, hold: PostgresHold) -> None:
        if hold.is_untidy and self._lock(cursor, hold):
            put_in_order(cursor, hold.number)
            hold.is_tidy_again()


def _end_expired(cursor: Cursor, number: int) -> None:
    cursor.execute(_END_EXPIRED, (number,))


def own(hold: Hold) -> PostgresHold:
    """A hold of this backend, as itself."""
    assert isinstance(hold, PostgresHold)
    return hold


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _sorted_out(promise: Promise, refused: frozenset[Reference]) -> dict[int, set[bytes]]:
    """What was promised and is kept, by size."""
    by_size: dict[int, set[bytes]] = {}
    for name, block in zip(promise.references, promise.blocks, strict=True):
        if name not in refused:
            by_size.setdefault(len(block), set()).add(name)
    return by_size


def _by_size(sizes: Mapping[Reference, int]) -> dict[int, set[bytes]]:
    by_size: dict[int, set[bytes]] = {}
    for name, size in sizes.items():
        by_size.setdefault(size, set()).add(name)
    return by_size

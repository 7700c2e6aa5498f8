"""The pins of a store in PostgreSQL: closed, told of, changed, released.

Each change is one transaction. Whoever changes the closed pins of an owner has that owner's lock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from eris.model import REFERENCE_SIZE, BlockSize, Reference
from kapla.errors import PinIncomplete, PinNotFound
from kapla.pins import PinSummary
from kapla.storage.pins import Closing, Hold, PinChoice, some
from kapla.storage.port import Page
from kapla.storage.postgresql import generations, locks, pin_rows
from kapla.storage.postgresql.closing import put_in_order, runs_held
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.holds import PostgresHold
from kapla.storage.postgresql.lacking import Lacking
from kapla.storage.postgresql.lending import changed_lent, lend, put_lent_in_order
from kapla.storage.postgresql.open_pins import OpenPins, own
from kapla.storage.postgresql.pin_rows import PinRow
from kapla.storage.postgresql.presence import filling
from kapla.storage.postgresql.runs import checked, split
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["PostgresPins"]

_RENEW_S: Final = 60.0
_LOOK_S: Final = 5.0
_LOOKED_THROUGH: Final = 64
"""Runs of what pins lack, for one answer about pins."""

_MOST_RECOUNTED: Final = 10_000
_SIZES: Final = tuple(map(int, BlockSize))

_NAME: Final = """
UPDATE pins SET name = %s, root = %s, keep = %s, lend = %s, created = %s, small = %s, large = %s,
    missing = %s, holder = NULL, leased_until = NULL
WHERE number = %s
"""
_CLOSED: Final = "SELECT FROM pins WHERE number = %s AND name IS NOT NULL AND token_hash = %s"
_DELETE: Final = "DELETE FROM pins WHERE number = ANY(%s::bigint[])"
_SWITCH: Final = """
UPDATE pins SET keep = coalesce(%s, keep), lend = coalesce(%s, lend)
WHERE number = ANY(%s::bigint[])
"""
_RUN: Final = """
SELECT names FROM pin_runs WHERE pin = %s ORDER BY lacking, size, first LIMIT 1 OFFSET %s
"""
_COUNT: Final = "SELECT count(*) FROM pins WHERE name IS NOT NULL"
_DROPPED: Final = "SELECT dropped::text FROM state"
_LENT: Final = "SELECT coalesce(sum(octet_length(names)) / 32, 0)::bigint FROM lent_runs"


class PostgresPins(OpenPins):
    """All pins of a store, by one of its sessions. Each open one is the first writer's."""

    def __init__(self, session: Session, front: Front) -> None:
        super().__init__(session, front)
        self._lacking = Lacking(
            session, self.quota, front.accounts, front.asked, self._renew_if_due
        )
        self._front, self._sharing = front, front.sharing
        # When blocks went that no pin keeps, as it was when a pin was looked at.
        self._recounted: dict[int, str | None] = {}
        self._lent_rows = 0
        # Whether others may have left more than was ended just now.
        self._has_expired = False
        self._renew_at = 0.0

    def close(self, number: int, hold: Hold, closing: Closing, most: int) -> PinSummary:
        """Make a pin of what was held; then it is held no more. `most`: pins that one may have.

        Raises: PinIncomplete, StoreFull, PinNotFound, StoreUnavailable, RequestMalformed; then
        nothing is changed.
        """
        self._renew_if_due()
        mine, name = own(hold), closing.called
        self._lacking.settle(number)
        self._session.retried(lambda cursor: self._close(cursor, mine, name, closing, most))
        self._has_no_more(number)
        mine.account.forget()
        self._front.lent.look_soon()
        return self._find(PinChoice(mine.owner, name))

    def abandon(self, number: int, hold: Hold, *, lend: bool = False) -> int:
        """Nothing of this is held any more; with `lend` it is lent while it is there.

        Returns how many blocks are lent so: none, if that is switched off.
        Raises: StoreUnavailable.
        """
        self._renew_if_due()
        mine = own(hold)
        is_lent = lend and self.quota.limits.lend_cache
        if is_lent:
            self._lacking.settle(number)
        lent = self._session.retried(lambda cursor: self._abandon(cursor, mine, is_lent=is_lent))
        self._has_no_more(number)
        mine.account.forget()
        self._front.lent.look_soon()
        return lent

    def page(
        self, owner: int | None, after: tuple[int, str], most: int
    ) -> tuple[list[PinSummary], bool]:
        """Some pins in the order of owner and name, and whether there are more.

        Of what pins lack only so much is looked for at once, taken at random; what is not looked
        for counts as it did before. Raises: StoreUnavailable.
        """
        self._renew_if_due()
        # No name has a zero byte.
        start = after[0], after[1].partition("\0")[0]

        def found(cursor: Cursor) -> list[PinRow]:
            self._sharing.look(cursor)
            return pin_rows.page(cursor, owner, start, most + 1)

        rows = self._session.retried(found)
        if self._are_looked_at(rows[:most]):
            rows = self._session.retried(found)
        return [self._summary(row) for row in rows[:most]], len(rows) > most

    def count(self) -> int:
        """How many there are. Raises: StoreUnavailable."""
        rows = self._session.retried(lambda cursor: cursor.execute(_COUNT).fetchall())
        return int(rows[0][0])

    def contents(self, owner: int, name: str, start: int) -> Page:
        """Some references of a pin, a run at a time. Raises: PinNotFound, StoreUnavailable."""

        def found(cursor: Cursor) -> Page:
            pin = some(pin_rows.chosen(cursor, PinChoice(owner, name)))[0]
            run = cursor.execute(_RUN, (pin.number, start)).fetchone()
            return Page([], None) if run is None else Page(split(checked(run[0])), start + 1)

        return self._session.retried(found)

    def change(self, choice: PinChoice, *, lend: bool | None, keep: bool | None) -> PinSummary:
        """Set switches of the pins that are found; tells of the last one.

        Raises: PinNotFound, StoreUnavailable.
        """
        self._renew_if_due()
        if lend is not None or keep is not None:
            found = self._session.retried(lambda cursor: self._change(cursor, choice, lend, keep))
            self._front.lent.look_soon()
            if keep:
                self._keep_what_is_there(found)
        return self._find(choice)

    def release(self, choice: PinChoice) -> PinSummary:
        """Remove the pins that are found; returns what the last one was.

        Raises: PinNotFound, StoreUnavailable.
        """
        self._renew_if_due()
        summary = self._find(choice)
        gone: list[PinRow] = []

        def released(cursor: Cursor) -> None:
            cursor.execute(locks.OF_OWNER, locks.of_owner(choice.owner))
            # Done again, as the answer was lost, there are none any more.
            found = some(pin_rows.chosen(cursor, choice) or gone)
            self._remove(cursor, found)
            gone[:] = found

        self._session.retried(released)
        self._accounts.of(choice.owner).forget()
        self._front.lent.look_soon()
        return summary

    def miss(self, names: Sequence[Reference]) -> None:
        """These were dropped, as they were bad: pins lack them now. Raises: StoreUnavailable."""
        for name in names:
            self._lacking.miss(name)

    def chore(self) -> None:
        """Do what there is to do now and then. Raises: StoreUnavailable."""
        self.tidy()
        self._renew_if_due()
        is_due = self._front.is_due("pins", _RENEW_S)
        if is_due or self._has_expired:
            self._has_expired = self.end_expired()
        if is_due:
            self._session.retried(self._put_lent_in_order)
        if self._front.is_due("kept", _LOOK_S):
            self._session.retried(self._look)

    def _renew_if_due(self) -> None:
        """Say that this front end is there: many are closed in one round, and each may be long."""
        now = time.monotonic()
        if now >= self._renew_at:
            self.renew()
            self._renew_at = now + _RENEW_S

    def _close(
        self, cursor: Cursor, hold: PostgresHold, name: str, closing: Closing, most: int
    ) -> None:
        cursor.execute(locks.OF_OWNER, locks.of_owner(hold.owner))
        if not self._lock(cursor, hold):
            if cursor.execute(_CLOSED, (hold.number, hold.token_hash)).fetchone() is None:
                raise PinNotFound("this pin is not open any more")
            # It was closed, and the answer was lost.
            return
        if not closing.incomplete:
            lacking = runs_held(cursor, hold.number, None)
            if missing := sum(map(len, lacking)) // REFERENCE_SIZE:
                raise PinIncomplete(missing)
        sizes, missing = put_in_order(cursor, hold.number)
        self.quota.check(cursor, hold.account, most)
        before = pin_rows.chosen(cursor, PinChoice(hold.owner, name))
        cursor.execute(_DELETE, ([row.number for row in before],))
        values = (name, closing.root, closing.keep, closing.lend, int(time.time()), *sizes, missing)
        cursor.execute(_NAME, (*values, hold.number))
        if closing.lend or any(row.lend for row in before):
            changed_lent(cursor)

    def _abandon(self, cursor: Cursor, hold: PostgresHold, *, is_lent: bool) -> int:
        if not self._lock(cursor, hold):
            return 0
        lent = 0
        if is_lent:
            for size in _SIZES:
                for run in runs_held(cursor, hold.number, size):
                    lend(cursor, filling(cursor), [run])
                    lent += len(run) // REFERENCE_SIZE
        cursor.execute(_DELETE, ([hold.number],))
        return lent

    def _change(
        self, cursor: Cursor, choice: PinChoice, lend: bool | None, keep: bool | None
    ) -> list[PinRow]:
        cursor.execute(locks.OF_OWNER, locks.of_owner(choice.owner))
        found = some(pin_rows.chosen(cursor, choice))
        cursor.execute(_SWITCH, (keep, lend, [row.number for row in found]))
        if lend is not None and any(row.lend != lend for row in found):
            changed_lent(cursor)
        return found

    def _keep_what_is_there(self, found: Sequence[PinRow]) -> None:
        """See what went while these did not keep it, and save what is leaving.

        Also where they kept before: whoever switched that may have been killed on the way.
        """
        if self._session.retried(_has_anything_gone):
            for row in found:
                self._lacking.recount(row.number)

    def _remove(self, cursor: Cursor, found: Sequence[PinRow]) -> None:
        cursor.execute(_DELETE, ([row.number for row in found],))
        if any(row.lend for row in found):
            changed_lent(cursor)

    def _find(self, choice: PinChoice) -> PinSummary:
        def found(cursor: Cursor) -> list[PinRow]:
            self._sharing.look(cursor)
            return some(pin_rows.chosen(cursor, choice))

        rows = self._session.retried(found)
        if self._are_looked_at(rows[-1:]):
            rows = self._session.retried(found)
        return self._summary(rows[-1])

    def _are_looked_at(self, rows: Sequence[PinRow]) -> bool:
        """See what has come and gone of these; returns whether they may be others now."""
        left, is_any = _LOOKED_THROUGH, False
        for row in rows:
            if left > 0 and row.missing:
                left -= self._lacking.settle(row.number, left)
                is_any = True
            if left > 0 and not row.keep and (count := self._recount(row.number, left)):
                left -= count
                is_any = True
        return is_any

    def _recount(self, number: int, most: int) -> int:
        rows = self._session.retried(lambda cursor: cursor.execute(_DROPPED).fetchall())
        dropped = rows[0][0]
        if dropped is None or self._recounted.get(number) == dropped:
            return 0
        count = self._lacking.recount(number, most)
        if len(self._recounted) > _MOST_RECOUNTED:
            self._recounted.clear()
        self._recounted[number] = dropped
        return count

    def _summary(self, row: PinRow) -> PinSummary:
        return row.summary(self._sharing.own(row.number, row.sizes))

    def _look(self, cursor: Cursor) -> None:
        self._sharing.look(cursor)
        row = cursor.execute(_LENT).fetchone()
        is_on = self.quota.limits.lend_cache
        self._front.lent_without = int(row[0]) if row is not None and is_on else 0

    def _put_lent_in_order(self, cursor: Cursor) -> None:
        self._lent_rows = put_lent_in_order(cursor, self._lent_rows)


def _has_anything_gone(cursor: Cursor) -> bool:
    """Whether a generation was ever dropped, or is leaving."""
    row = cursor.execute(_DROPPED).fetchone()
    return row != (None,) or bool(generations.read(cursor).leaving)

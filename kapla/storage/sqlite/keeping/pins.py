"""The pins of an open store, as the writer's thread has them: made, told of, changed, released.

Each change is one transaction, and durable when it returns.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.errors import PinIncomplete, PinNotFound, RequestMalformed, StorageError
from kapla.pins import PinSummary
from kapla.storage.pins import BEFORE_PINS, SALVAGED, Closing, PinChoice, some
from kapla.storage.port import Page
from kapla.storage.sqlite.damage import transaction
from kapla.storage.sqlite.keeping.contents import contents
from kapla.storage.sqlite.keeping.pin import Pin
from kapla.storage.sqlite.keeping.state import Hold
from kapla.storage.sqlite.keeping.traffic import PinTraffic

__all__ = ["Pins"]

_log = logging.getLogger(__name__)

_OWN_NAMES: Final = (BEFORE_PINS, SALVAGED)
_IDLE_S: Final = 0.2
_RETRY_S: Final = 5.0


class Pins(PinTraffic):
    """All pins of a store, on the writer's connection."""

    def begin(self, owner: int, wants: int | None, token: bytes) -> tuple[int, Hold, int]:
        """Open a pin: its number, what it holds, and the bytes of content there is room for.

        Raises: StoreFull, if that is less than `wants`.
        """
        self._settle()
        if wants is not None:
            self.quota.check_room(owner, wants, self.advice)
        self._last_number += 1
        hold = self._keeping.open_hold(owner)
        self._opened[token] = self._last_number, hold
        return self._last_number, hold, self.quota.room(owner)

    def attach(self, owner: int, token: bytes) -> tuple[int, Hold, int]:
        """Go on with an open pin; see `begin`.

        Nobody else has this store open: there are those that were opened here.
        Raises: PinNotFound, if there is none with this token, or it is somebody else's.
        """
        number, hold = self._opened.get(token, (0, None))
        if hold is None or hold.owner != owner:
            raise PinNotFound("there is no open pin to go on with")
        return number, hold, self.quota.room(owner)

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> None:
        """Remember what an open pin lacks. Raises: StoreFull, StoreUnavailable."""
        with self._mended(), transaction(self._connection):
            added = self.wants.want(number, hold, references)
        self.wants.wanted(number, hold, added)

    def close(self, number: int, hold: Hold, closing: Closing, most: int) -> PinSummary:
        """Make a pin of what was held; then it is held no more. `most`: pins that one may have.

        Raises: PinIncomplete, StoreFull, StoreUnavailable, RequestMalformed; then nothing is
        changed.
        """
        pin = self._new_pin(number, hold, closing)
        if self.wants.missing(number) and self.wants.has_late:
            self._tell_late(number)
            pin = self._new_pin(number, hold, closing)
        if self.wants.missing(number) and not closing.incomplete:
            raise PinIncomplete(self.wants.missing(number))
        self.quota.check(hold.owner, most)
        with self._mended(), transaction(self._connection):
            before = self._rows.named(pin.owner, pin.name)
            if before is not None:
                self._rows.delete(before)
            self._rows.insert(pin)
        self.quota.accounts.add(pin)
        self.wants.close(number, pin)
        if before is not None:
            self._is_gone(before)
        self._end(hold)
        return self._summary(pin)

    def abandon(self, number: int, hold: Hold, *, lend: bool = False) -> int:
        """Nothing of this is held any more; with `lend` it is lent while it is there.

        Returns how many blocks are lent so: none, if that is switched off.
        """
        self.wants.drop(number)
        with self._keeping.lock:
            ids = hold.small | hold.large
        lent = self.lent_cache.add(ids) if lend else 0
        self._end(hold)
        return lent

    def page(
        self, owner: int | None, after: tuple[int, str], most: int
    ) -> tuple[list[PinSummary], bool]:
        """Some pins in the order of owner and name, and whether there are more."""
        self._settle()
        with self._mended():
            found = self._rows.page(owner, after, most + 1)
        return [self._summary(pin) for pin in found[:most]], len(found) > most

    def count(self) -> int:
        """How many there are."""
        return self.quota.accounts.count

    def contents(self, owner: int, name: str, start: int) -> Page:
        """Some references of a pin. Raises: PinNotFound, StoreUnavailable."""
        with self._mended():
            pin = self._rows.named(owner, name)
            if pin is not None:
                return contents(self._connection, self._rows, pin, start)
        raise PinNotFound("there is no such pin")

    def change(self, choice: PinChoice, *, lend: bool | None, keep: bool | None) -> PinSummary:
        """Set switches of the pins that are found. Raises: PinNotFound, StoreUnavailable."""
        if lend is None and keep is None:
            # A question in the form of a change: nothing is written for it.
            return self._find(choice)
        with self._mended(), transaction(self._connection):
            found = some(self._rows.chosen(choice))
            changed = [
                replace(
                    pin,
                    lend=pin.lend if lend is None else lend,
                    keep=pin.keep if keep is None else keep,
                )
                for pin in found
            ]
            for pin in changed:
                self._rows.switch(pin)
        for before, pin in zip(found, changed, strict=True):
            self.quota.accounts.switch(before, pin)
            self.wants.switched(pin)
        self._look_at_room()
        self._settle()
        return self._summary(changed[-1])

    def _find(self, choice: PinChoice) -> PinSummary:
        self._settle()
        with self._mended():
            found = some(self._rows.chosen(choice))
        return self._summary(found[-1])

    def release(self, choice: PinChoice) -> PinSummary:
        """Remove the pins that are found; returns what the last one was.

        Raises: PinNotFound, StoreUnavailable.
        """
        self._settle()
        with self._mended(), transaction(self._connection):
            found = some(self._rows.chosen(choice))
            for pin in found:
                self._rows.delete(pin)
        summary = self._summary(found[-1])
        for pin in found:
            self._is_gone(pin)
        self._look_at_room()
        return summary

    def chore(self, *, is_idle: bool) -> float | None:
        """Do a little of what there is to do; see `kapla.storage.sqlite.keeper`."""
        try:
            pauses = [self._chore(is_idle), self.lent_cache.chore(is_idle)]
        except (sqlite3.Error, StoreUnavailable, StorageError) as error:
            self._complaints.tell(f"The upkeep of pins failed, and is tried again: {error}")
            return _RETRY_S
        due = [pause for pause in pauses if pause is not None]
        if not due:
            self._complaints.well()
        return min(due, default=None)

    def _chore(self, is_idle: bool) -> float | None:
        if self._is_damaged and (is_idle or not self._is_beyond_help):
            self._salvage()
        if self.wants.has_late:
            self._tell_late()
            return 0.0
        number = self.wants.next_to_fold()
        is_left = number is not None or self.wants.has_gone
        if self.is_stale and not is_left and (pause := self.settles_in):
            return pause
        is_left |= self.is_stale
        if not is_left or not is_idle:
            return _IDLE_S if is_left else None
        with self._mended():
            if number is not None:
                self._fold(number)
            elif self.wants.has_gone:
                with transaction(self._connection):
                    after = self.wants.forget_some()
                after()
            else:
                self._settle()
        return 0.0

    def _end(self, hold: Hold) -> None:
        self._keeping.end_hold(hold)
        self._opened = {token: it for token, it in self._opened.items() if it[1] is not hold}

    def _tell_late(self, number: int | None = None) -> None:
        wants = self.wants
        with self._mended():
            with transaction(self._connection):
                arrivals = wants.arrive_late() if number is None else wants.arrive_for(number)
            self.wants.apply(arrivals)

    def _new_pin(self, number: int, hold: Hold, closing: Closing) -> Pin:
        name = closing.called
        if hold.owner == 0 and name in _OWN_NAMES:
            raise RequestMalformed(f"{name} is the name of a pin that the daemon makes")
        with self._keeping.lock:
            small, large = hold.small.copy(), hold.large.copy()
        created = int(time.time())
        return Pin(
            number,
            hold.owner,
            name,
            closing.root,
            closing.keep,
            closing.lend,
            created,
            small,
            large,
        )

    def _fold(self, number: int) -> None:
        with transaction(self._connection):
            self._rows.refill(self._rows.get(number))
        self.wants.folded(number)

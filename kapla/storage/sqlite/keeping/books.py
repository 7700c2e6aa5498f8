"""What is known in memory of all pins: their unions, what each lacks; and mending their tables.

What a pin holds stands on disk only. The unions are brought up to date after each change that is
committed: when a pin goes away they may be too large for a while, never too small.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.pins import PinSummary
from kapla.storage.complaints import Complaints
from kapla.storage.pins import Sizes
from kapla.storage.sqlite.damage import is_damage, unreadable
from kapla.storage.sqlite.keeping.accounting import Accounts
from kapla.storage.sqlite.keeping.lent_cache import LentCache
from kapla.storage.sqlite.keeping.pin import Pin
from kapla.storage.sqlite.keeping.quota import Quota
from kapla.storage.sqlite.keeping.room import Room
from kapla.storage.sqlite.keeping.rows import PinRows
from kapla.storage.sqlite.keeping.salvage import all_of_them, salvage
from kapla.storage.sqlite.keeping.state import Hold
from kapla.storage.sqlite.keeping.wants import Wants
from kapla.storage.sqlite.state import Database

__all__ = ["PinBooks"]

_log = logging.getLogger(__name__)

_clock = time.monotonic
# Counting all pins anew takes seconds where there are a hundred thousand, and PUTs wait for it.
# What takes longer than this is done again only after so many times as long.
_SHORT_S: Final = 0.05
_REST: Final = 20


class PinBooks:
    """All pins of a store as they are counted, on the writer's connection."""

    def __init__(self, connection: sqlite3.Connection, database: Database, room: Room) -> None:
        self._connection = connection
        self._database = database
        self._keeping = database.keeping
        self._rows = PinRows(connection)
        self.quota = Quota(database, room)
        self.wants = Wants(self._rows, self.quota, database.keeping)
        self.lent_cache = LentCache(connection, database)
        """What is lent without a pin."""
        self._is_damaged = False
        self._complaints = Complaints(_log)
        self._is_beyond_help = False
        self._is_doubtful = False
        self._last_number = 0
        # The open ones by their tokens: number, and what it holds.
        self._opened: dict[bytes, tuple[int, Hold]] = {}
        self._pressing: list[str] = []
        self._settle_after = _clock()

    def start(self) -> None:
        """Read all pins. Where that cannot be, all that there is is kept. Raises: sqlite3.Error."""
        self.lent_cache.load()
        if not self._load():
            try:
                self._salvage()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
        if self._is_damaged:
            self._keep_everything()
        for name in self._pressing:
            _log.warning(
                "The pin %s leaves less than a tenth of max-size to anything else: release it"
                " (kapla unpin %s), or raise max-size",
                name,
                name,
            )

    def look(self) -> None:
        """Read all pins, for who only tells of them. Raises: sqlite3.Error, StorageError."""
        self.lent_cache.load()
        if not self._load():
            raise StorageError("the tables of pins are damaged; kaplad mends them")

    def settle(self) -> None:
        """Let the store's settings of now hold: count anew what is lent.

        Raises: StoreUnavailable.
        """
        with self._mended():
            if not self._load():
                raise StorageError("the pins cannot be read")

    def tell_damage(self, error: Exception) -> None:
        """A table of pins cannot be read. What is known to be kept stays so until it is mended."""
        if not self._is_damaged:
            self._is_damaged = True
            _log.error("The tables of pins are damaged, and made anew: %s", error)

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Where a table turns out to be damaged, mend it, and say that it failed this time."""
        try:
            yield
        except (sqlite3.Error, StorageError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise unreadable(error) from error
            self.tell_damage(error)
            self._salvage()
            raise StoreUnavailable("the pins were damaged, and are mended: try again") from error

    def _salvage(self) -> None:
        # Unless it succeeds: then it is tried again only when there is time.
        self._is_beyond_help = True
        salvage(self._connection)
        self._is_damaged = self._is_beyond_help = not self._load()

    def _keep_everything(self) -> None:
        """What cannot be mended: nothing goes while the store is open."""
        _log.error("The tables of pins cannot be made anew: all blocks are kept")
        accounts = Accounts(self.lent_cache.lent)
        accounts.add(all_of_them(self._connection, 0))
        self._use(accounts)

    def _load(self) -> bool:
        """Count everything; returns whether it could be read."""
        accounts, known = Accounts(self.lent_cache.lent), dict[int, Pin]()
        try:
            self._last_number = max(self._last_number, self._rows.last_number())
            missing = self._rows.missing()
            for pin in self._rows.all():
                accounts.add(self._with_sums(pin))
                if pin.id in missing:
                    known[pin.id] = pin
            self.wants.load(known)
        except (sqlite3.Error, StorageError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            self.tell_damage(error)
            return False
        self._use(accounts)
        self._is_doubtful = False
        return True

    def _use(self, accounts: Accounts) -> None:
        self.quota.accounts = accounts
        self._keeping.kept, self._keeping.lent = accounts.kept, accounts.lent
        self._keeping.pinned = accounts.all
        self._look_at_room()

    def _settle(self) -> None:
        """Count all pins anew, if what is counted may be wrong, and that is not too much work.

        Raises: StoreUnavailable.
        """
        started = _clock()
        if not self.is_stale or started < self._settle_after:
            return
        with self._mended():
            if not self._load():
                raise StorageError("the pins cannot be read")
        now = _clock()
        if now - started > _SHORT_S:
            self._settle_after = now + _REST * (now - started)

    @property
    def settles_in(self) -> float:
        """Seconds until all pins may be counted anew."""
        return max(0.0, self._settle_after - _clock())

    @property
    def is_stale(self) -> bool:
        """Whether what is counted may be too much."""
        return self.quota.accounts.is_stale or self._is_doubtful

    def _with_sums(self, pin: Pin) -> Pin:
        """Where the totals were damaged when the pin was made, those of now must do."""
        totals = self._database.totals
        if not pin.is_counted and totals is not None:
            pin.sums = Sizes(totals[BlockSize.SMALL], totals[BlockSize.LARGE])
        return pin

    def _is_gone(self, pin: Pin) -> None:
        self.wants.drop(pin.id)
        self.quota.accounts.remove(pin)

    def _summary(self, pin: Pin) -> PinSummary:
        sizes, own = self._with_sums(pin).sizes, self.quota.accounts.own(pin)
        return PinSummary(
            name=pin.name,
            owner=pin.owner,
            root=pin.root,
            keep=pin.keep,
            lend=pin.lend,
            created=pin.created,
            small=sizes.small,
            large=sizes.large,
            own_small=own.small,
            own_large=own.large,
            missing=self.wants.missing(pin.id),
        )

    def _look_at_room(self) -> None:
        """Whether what nobody chose to keep leaves little room, and what can be done about it."""
        kept = self.quota.accounts.kept_by_sums()
        self._pressing = [name for name, sizes in kept.items() if self.quota.is_pressing(sizes)]

    @property
    def advice(self) -> str:
        """How to get room, where a pin that nobody made keeps nearly all; to end a sentence."""
        return "".join(
            f"; nearly all of it is kept by the pin {name}, which kapla unpin {name} releases"
            for name in self._pressing[:1]
        )

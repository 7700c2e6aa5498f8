"""Pins of an open store, from the event loop: begun, closed, told of, changed, released.

A pin is opened before its first block comes. What comes under it is held until it is closed: then
it has a name, and is on disk. An open pin belongs to a connection; when that ends, it waits ten
minutes for another one to go on with it, by its token. Where several processes have the store open
that may be a connection to any of them: the backend knows whose a pin is. All work on pins is done
by the writer's thread, between its commits.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from eris.errors import ErisError, StoreRefused
from eris.model import Reference
from kapla.errors import PinNotFound
from kapla.pins import PinSummary
from kapla.storage.pin_requests import check_name, choice_of, parse_after
from kapla.storage.pins import Closing, Hold
from kapla.storage.port import Page, Writer
from kapla.storage.worker import Wanted, answered

__all__ = ["MOST_OPEN", "ORPHAN_S", "OpenPin", "Pinning"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

ORPHAN_S: Final = 600.0
"""For so long an open pin outlives its connection."""

MOST_OPEN: Final = 64
"""Pins of one user that are open at a time."""

MOST_PINS: Final = 100_000
"""Pins of one user: all are counted anew after a release, which takes seconds for so many."""

_TOKEN_BYTES: Final = 16


class _Storage(Protocol):
    """What is needed of the store; see `BatchedStorage`."""

    async def do(self, call: Callable[[Any], _T]) -> _T:
        """Have the writer's thread do something."""

    def find_many(
        self,
        references: Sequence[Reference],
        done: Callable[[Any], None],
        wanted: Wanted = ...,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        """Tell which blocks are there, and hold them."""


class OpenPin:
    """A pin that is being filled, by one connection at a time."""

    def __init__(self, pinning: Pinning, token: bytes, number: int, hold: Hold, room: int) -> None:
        self.token = token
        """By which another connection of the same user can go on."""
        self.hold = hold
        """To be handed in with what is put, and asked for, under this pin."""
        self.number = number
        self.room = room
        """Bytes of content for which there was room when it was opened."""
        self._pinning = pinning
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_attached(self) -> bool:
        """Whether a connection has it."""
        return self._timer is None

    def attach(self) -> None:
        """A connection has it; twice is nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def detach(self) -> None:
        """Its connection has ended: if no other comes, all of it is let go after ten minutes."""
        if self._timer is None and self._pinning.has(self):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(ORPHAN_S, self._pinning.expire, self)


class Pinning:
    """The pins of one store."""

    def __init__(self, storage: _Storage) -> None:
        self._storage = storage
        # By token; the oldest first.
        self._open: dict[bytes, OpenPin] = {}
        # Those that are being opened, by owner.
        self._opening: dict[int, int] = {}
        # By token, those that somebody is about to go on with.
        self._attaching: set[bytes] = set()
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self, owner: int, *, wants: int | None = None) -> OpenPin:
        """Begin a pin for a user; `wants`: bytes of content that are about to come.

        Raises: StoreFull, if there is not that much room; StoreRefused, if too many are open;
        StoreUnavailable.
        """
        self._make_place(owner)
        opening = asyncio.ensure_future(self._begin(owner, wants))
        try:
            return await self._to_its_end(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._unwanted)
            raise

    async def resume(self, owner: int, token: bytes) -> OpenPin:
        """Go on with a pin whose connection has ended, here or at another front end of the store.

        Raises: PinNotFound, if there is none with this token, or somebody else's, or in use here;
        StoreRefused, if too many are open; StoreUnavailable.
        """
        known = self._open.get(token)
        if token in self._attaching or (known is not None and not _is_left(known, owner)):
            raise PinNotFound("there is no open pin to go on with")
        if known is None:
            self._make_place(owner)
        else:
            known.attach()
        attaching = asyncio.ensure_future(self._attach(owner, token, known))
        try:
            return await self._to_its_end(attaching)
        except asyncio.CancelledError:
            attaching.add_done_callback(_left)
            raise

    def has(self, pin: OpenPin) -> bool:
        """Whether it is still open."""
        return self._open.get(pin.token) is pin

    async def want(self, pin: OpenPin, references: Sequence[Reference]) -> list[bool]:
        """Tell which blocks are there, and hold them; remember the others as lacking.

        Raises: StoreFull, PinNotFound, StoreUnavailable.
        """
        self._check(pin)
        there: list[bool] = await answered(
            lambda done, _: self._storage.find_many(references, done, hold=pin.hold)
        )
        if all(there):
            return there
        missing = [name for name, found in zip(references, there, strict=True) if not found]
        self._check(pin)
        came = await self._storage.do(lambda writer: writer.want(pin.number, pin.hold, missing))
        return [found or name in came for name, found in zip(references, there, strict=True)]

    async def close(
        self,
        pin: OpenPin,
        *,
        name: str | None = None,
        root: Reference | None = None,
        lend: bool = False,
        keep: bool = True,
        incomplete: bool = False,
    ) -> PinSummary:
        """Make a pin of what was held, durably; one of the same owner and name is replaced.

        Raises: PinIncomplete, if something is lacking and that was not allowed; StoreFull, if the
        owner has pinned too much; RequestMalformed, for a name that cannot be one; PinNotFound,
        StoreUnavailable. Then it is still open.
        """
        self._check(pin)
        if name is not None:
            check_name(name)
        closing = Closing(name, root, lend=lend, keep=keep, incomplete=incomplete)
        return await self._to_its_end(asyncio.ensure_future(self._close(pin, closing)))

    async def abandon(self, pin: OpenPin, *, lend: bool = False) -> int:
        """Let go of all that was held; with `lend` it is lent for as long as it is there.

        Returns how many blocks are lent so: none, where that is switched off. It is on disk soon,
        and not at once. Raises: PinNotFound, StoreUnavailable.
        """
        self._check(pin)
        self._forget(pin)
        # To its end: nobody else would end what is held.
        return await self._to_its_end(asyncio.ensure_future(self._abandoned(pin, lend=lend)))

    async def list(
        self, owner: int | None, after: str | None, most: int
    ) -> tuple[list[PinSummary], str | None]:
        """Some pins of a user, or of all (None), in order, and what to give as `after` for more.

        Raises: RequestMalformed, StoreUnavailable.
        """
        start = parse_after(after, owner)
        found, is_more = await self._storage.do(lambda writer: writer.pins.page(owner, start, most))
        last = f"{found[-1].owner}:{found[-1].name}" if is_more else None
        return found, last

    async def count(self) -> int:
        """How many pins there are, of all users. Raises: StoreUnavailable."""
        return await self._storage.do(lambda writer: writer.pins.count())

    async def contents(self, owner: int, name: str) -> AsyncIterator[Sequence[Reference]]:
        """All references of a pin, also of blocks that it lacks, some at a time.

        Raises: PinNotFound, StoreUnavailable.
        """
        place: int | None = 0
        while place is not None:
            page: Page = await self._storage.do(partial(_contents, owner, name, place))
            place = page.following
            if page.references:
                yield page.references

    async def change(
        self,
        owner: int,
        *,
        name: str | None = None,
        root: Reference | None = None,
        lend: bool | None = None,
        keep: bool | None = None,
    ) -> PinSummary:
        """Set switches of the pin of a name, or of all with a root; tells of the last one.

        Raises: PinNotFound, RequestMalformed, StoreUnavailable.
        """
        chosen = choice_of(owner, name, root)
        return await self._storage.do(
            lambda writer: writer.pins.change(chosen, lend=lend, keep=keep)
        )

    async def release(
        self, owner: int, *, name: str | None = None, root: Reference | None = None
    ) -> PinSummary:
        """Remove the pin of a name, or all with a root; tells what the last one was.

        Raises: PinNotFound, RequestMalformed, StoreUnavailable.
        """
        chosen = choice_of(owner, name, root)
        return await self._storage.do(lambda writer: writer.pins.release(chosen))

    def expire(self, pin: OpenPin) -> None:
        """Nobody came back for it."""
        if self.has(pin):
            _log.info("An open pin is given up: nobody went on with it")
            self._let_go(pin)

    def end(self) -> None:
        """The store is closed here: what was not closed before is no pin of this process."""
        for pin in list(self._open.values()):
            self._forget(pin)

    def _make_place(self, owner: int) -> None:
        mine = [pin for pin in self._open.values() if pin.hold.owner == owner]
        if len(mine) + self._opening.get(owner, 0) < MOST_OPEN:
            return
        waiting = next((pin for pin in mine if not pin.is_attached), None)
        if waiting is None:
            raise StoreRefused(f"{MOST_OPEN} pins of yours are open already")
        self._let_go(waiting)

    async def _begin(self, owner: int, wants: int | None) -> OpenPin:
        token = secrets.token_bytes(_TOKEN_BYTES)
        with self._place(owner):
            opened = await self._storage.do(lambda writer: writer.pins.begin(owner, wants, token))
        return self._have(OpenPin(self, token, *opened))

    async def _attach(self, owner: int, token: bytes, known: OpenPin | None) -> OpenPin:
        self._attaching.add(token)
        try:
            with self._place(owner):
                found = await self._storage.do(lambda writer: writer.pins.attach(owner, token))
        except PinNotFound:
            if known is not None:
                self._forget(known)
            raise
        except BaseException:
            if known is not None:
                known.detach()
            raise
        finally:
            self._attaching.discard(token)
        if known is not None and known.hold is found[1] and self.has(known):
            return known
        return self._have(OpenPin(self, token, *found))

    @contextmanager
    def _place(self, owner: int) -> Iterator[None]:
        """One more of an owner is being opened."""
        self._opening[owner] = self._opening.get(owner, 0) + 1
        try:
            yield
        finally:
            self._opening[owner] -= 1
            if not self._opening[owner]:
                del self._opening[owner]

    def _have(self, pin: OpenPin) -> OpenPin:
        self._open[pin.token] = pin
        return pin

    async def _close(self, pin: OpenPin, closing: Closing) -> PinSummary:
        try:
            summary: PinSummary = await self._storage.do(
                lambda writer: writer.pins.close(pin.number, pin.hold, closing, MOST_PINS)
            )
        except PinNotFound:
            # Somebody went on with it elsewhere.
            self._forget(pin)
            raise
        self._forget(pin)
        return summary

    async def _to_its_end(self, task: asyncio.Task[_T]) -> _T:
        """Wait for work that is done whole, though nobody waits for it any more."""
        self._keep_running(task)
        return await asyncio.shield(task)

    def _unwanted(self, opening: asyncio.Task[OpenPin]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._let_go(opening.result())

    def _let_go(self, pin: OpenPin) -> None:
        self._forget(pin)
        self._keep_running(asyncio.ensure_future(self._abandon(pin)))

    def _keep_running(self, task: asyncio.Task[Any]) -> None:
        # Until it is done: the loop has only weak references.
        self._running.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Looked at, though nobody may wait for it.
            task.exception()

    async def _abandoned(self, pin: OpenPin, *, lend: bool) -> int:
        lent: int = await self._storage.do(
            lambda writer: writer.pins.abandon(pin.number, pin.hold, lend=lend)
        )
        return lent

    async def _abandon(self, pin: OpenPin) -> None:
        try:
            await self._abandoned(pin, lend=False)
        except ErisError as error:
            # Closed meanwhile: nothing is held then.
            _log.debug("An open pin could not be given up: %s", error)

    def _forget(self, pin: OpenPin) -> None:
        pin.attach()
        if self.has(pin):
            del self._open[pin.token]

    def _check(self, pin: OpenPin) -> None:
        if not self.has(pin):
            raise PinNotFound("this pin is not open any more")


def _is_left(pin: OpenPin, owner: int) -> bool:
    """Whether an owner may go on with a pin."""
    return pin.hold.owner == owner and not pin.is_attached


def _left(attaching: asyncio.Task[OpenPin]) -> None:
    """Nobody waited until it was there."""
    if not attaching.cancelled() and attaching.exception() is None:
        attaching.result().detach()


def _contents(owner: int, name: str, start: int, writer: Writer) -> Page:
    return writer.pins.contents(owner, name, start)

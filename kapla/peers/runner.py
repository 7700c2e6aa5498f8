"""A session over asyncio: asks the peers, checks what they give, keeps the time.

The session decides; here its actions become requests, and their answers events. Each request is in
one table from before it is sent until its future is done, and each wish in another until it has its
block, its error, or nobody who waits; `close` empties both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from eris.base32 import short
from eris.crypto import reference_of
from eris.errors import BlockNotFound, CorruptBlock, ErisError, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.peers.live import Live, LiveSources
from kapla.peers.session import Action, Distrust, Find, Get, NobodyHas, Session, Standing
from kapla.peers.session.session import DEFAULT_PATIENCE_S
from kapla.peers.source import Block

__all__ = ["Runner"]

_log = logging.getLogger(__name__)

# What an answer brings beside the block, and what the request weighs.
_FRAME: Final = 64


class _Wish:
    """A block that is wanted, and by whom."""

    __slots__ = ("block_size", "failure", "waiting")

    def __init__(self, block_size: BlockSize | None) -> None:
        self.block_size = block_size
        self.waiting: list[asyncio.Future[Block]] = []
        self.failure: ErisError | None = None
        """The last error that says more than that the block is not there."""


class Runner:
    """One session. `place`: any number, the same for this daemon each time.

    `patience_s`: how long a peer that does not answer is hoped for, where no other has the block.
    """

    def __init__(
        self, sources: LiveSources, *, place: int = 0, patience_s: float = DEFAULT_PATIENCE_S
    ) -> None:
        self._sources = sources
        self._session = Session(place=place, patience_s=patience_s)
        self._loop = asyncio.get_running_loop()
        self._wishes: dict[Reference, _Wish] = {}
        self._requests: set[asyncio.Future[Block] | asyncio.Future[list[bool]]] = set()
        # The last error of each peer that failed: why a block may be there and cannot be had.
        self._errors: dict[int, ErisError] = {}
        self._is_planned = False
        self._closed = ""
        self._timer: asyncio.TimerHandle | None = None
        sources.watch(self)
        for number, live in sorted(sources, key=_likely):
            self._session.join(number, live.standing, self._loop.time())

    @property
    def session(self) -> Session:
        """What it has done so far."""
        return self._session

    def fetch(
        self,
        reference: Reference,
        block_size: BlockSize | None,
        but: frozenset[int] = frozenset(),
    ) -> asyncio.Future[Block]:
        """Fetch a block from the peers, but not from some; the block is the right one.

        A block that is under way already is waited for. Cancel the future to give up.
        Raises: BlockNotFound, if all said so; StoreUnavailable, or what a peer raised.
        """
        future: asyncio.Future[Block] = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable(self._closed))
            return future
        wish = self._wishes.get(reference)
        if wish is None:
            wish = self._wishes[reference] = _Wish(block_size)
        wish.waiting.append(future)
        future.add_done_callback(partial(self._given_up, reference))
        weight = int(block_size or BlockSize.LARGE) + _FRAME
        self._session.want(reference, self._loop.time(), but=but, weight=weight)
        self._plan()
        return future

    def close(self, reason: str = "the peers are not asked any more") -> None:
        """Ask nothing more, and wait for nothing; what is wanted fails, for this reason."""
        if self._closed:
            return
        self._closed = reason
        self._sources.unwatch(self)
        self._session.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        requests, self._requests = self._requests, set()
        for request in requests:
            request.cancel()
        for reference in list(self._wishes):
            self._fail(reference, StoreUnavailable(reason))

    # what LiveSources tells

    def joined(self, number: int, standing: Standing) -> None:
        """There is one more peer to ask."""
        self._session.join(number, standing, self._loop.time())
        self._plan()

    def left(self, number: int) -> None:
        """One is there no more: what it was asked for is asked of others."""
        self._errors.pop(number, None)
        self._session.leave(number, self._loop.time())
        self._plan()

    def has_room(self) -> None:
        """A peer has answered another session."""
        self._session.has_room(self._loop.time())
        self._plan()

    # wishes

    def _given_up(self, reference: Reference, future: asyncio.Future[Block]) -> None:
        if not future.cancelled():
            return
        wish = self._wishes.get(reference)
        if wish is None or future not in wish.waiting:
            return
        wish.waiting.remove(future)
        if not wish.waiting:
            del self._wishes[reference]
            self._session.forget(reference)

    def _fulfil(self, reference: Reference, block: Block) -> None:
        wish = self._wishes.pop(reference, None)
        for future in wish.waiting if wish else ():
            if not future.done():
                future.set_result(block)

    def _fail(self, reference: Reference, error: ErisError) -> None:
        wish = self._wishes.pop(reference, None)
        for future in wish.waiting if wish else ():
            if not future.done():
                future.set_exception(error)

    # the session's actions

    def _plan(self) -> None:
        """Act at the end of this turn of the loop, on all that happened in it."""
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._act)

    def _act(self) -> None:
        self._is_planned = False
        was_served = False
        while not self._closed and (actions := self._session.actions()):
            was_served = True
            for action in actions:
                self._do(action)
        if not self._closed:
            self._sources.set_hungry(self, self._session.is_hungry, was_served)
            self._set_timer()

    def _do(self, action: Action) -> None:
        match action:
            case Get(peer, reference):
                self._get(peer, reference)
            case Find(peer, question, references):
                self._find(peer, question, references)
            case NobodyHas(reference, was_failure):
                self._fail(reference, self._reason(reference, was_failure))
            case Distrust(peer):
                self._sources.distrust(peer)

    def _reason(self, reference: Reference, was_failure: bool) -> ErisError:
        wish = self._wishes.get(reference)
        if wish is not None and wish.failure is not None:
            return wish.failure
        return self._failure(reference) if was_failure else BlockNotFound(reference)

    def _failure(self, reference: Reference) -> ErisError:
        """Who could not be asked."""
        for number, live in self._sources:
            if live.standing.breaker.is_open:
                error = self._errors.get(number)
                return StoreUnavailable(str(error or f"{live.source.name} does not answer"))
        return StoreUnavailable(f"block {short(reference)} could not be asked of all peers")

    def _get(self, peer: int, reference: Reference) -> None:
        live = self._sources.get(peer)
        wish = self._wishes.get(reference)
        if live is None or wish is None:
            # Things happened while the actions were carried out.
            self._session.failed(peer, reference, self._loop.time())
            return
        request = live.source.get(reference, wish.block_size)
        self._requests.add(request)
        request.add_done_callback(partial(self._answered, peer, reference))

    def _find(self, peer: int, question: int, references: Sequence[Reference]) -> None:
        live = self._sources.get(peer)
        if live is None:
            return
        request = live.source.find(references)
        self._requests.add(request)
        request.add_done_callback(partial(self._told, peer, question, len(references)))

    # answers

    def _answered(self, peer: int, reference: Reference, request: asyncio.Future[Block]) -> None:
        error = _error_of(request)
        if request not in self._requests:
            return
        self._requests.discard(request)
        now = self._loop.time()
        if error is None:
            block = request.result()
            if reference_of(block.data) == reference:
                self._session.got(peer, reference, now, len(block.data))
                self._fulfil(reference, block)
            else:
                self._failed(peer, reference, CorruptBlock(reference), now)
        else:
            self._failed(peer, reference, error, now)
        self._sources.answered()
        self._plan()

    def _failed(self, peer: int, reference: Reference, error: ErisError, now: float) -> None:
        if isinstance(error, BlockNotFound):
            self._session.missing(peer, reference, now)
            return
        live = self._sources.get(peer)
        if live is not None:
            _log.debug("Block %s from %s: %s", short(reference), live.source.name, error)
            self._errors[peer] = error
        wish = self._wishes.get(reference)
        if wish is not None:
            wish.failure = error
        if isinstance(error, CorruptBlock):
            self._session.wrong(peer, reference, now)
        else:
            self._session.failed(peer, reference, now)

    def _told(
        self, peer: int, question: int, count: int, request: asyncio.Future[list[bool]]
    ) -> None:
        error = _error_of(request)
        if request not in self._requests:
            return
        self._requests.discard(request)
        present = None if error is not None else request.result()
        if present is not None and len(present) != count:
            present = None
        self._session.found(peer, question, present, self._loop.time())
        self._plan()

    # time

    def _set_timer(self) -> None:
        """One timer, which may be early: it then looks again."""
        due = self._session.due()
        if self._timer is not None:
            if due is not None and due >= self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._session.tick(self._loop.time())
        self._act()


def _likely(numbered: tuple[int, Live]) -> tuple[bool, float]:
    """Those first that have given something, the quickest first."""
    standing = numbered[1].standing
    return not standing.is_proven, standing.srtt_s


def _error_of(request: asyncio.Future[Block] | asyncio.Future[list[bool]]) -> ErisError | None:
    """Why a request failed; None if it did not."""
    if request.cancelled():
        return StoreUnavailable("the request was given up")
    error = request.exception()
    if error is None or isinstance(error, ErisError):
        return error
    _log.error("A request to a peer failed", exc_info=error)
    return StoreUnavailable("the request failed")

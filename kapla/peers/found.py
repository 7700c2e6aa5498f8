"""Peers that are dialled where they were found on the local network: they come and go.

Some are peers that the user named, by a key alone or by a URL that does not answer just now; others
are there only because they were found where he trusts those who are. Each is dialled at all places
that announce its key, one shortly after the other: whoever announces the key of another is not to
keep him from being found. Who is not found any more, or at another place, is let go at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

from eris.errors import StoreUnavailable
from kapla.identity.key import PeerKey
from kapla.lan.judging import Place
from kapla.peers.dialling import Dialler, Kept, State
from kapla.peers.table import Peer, PeerTable
from kapla.peers.tries import Tries

__all__ = ["MOST_FOUND", "FoundPeers"]

MOST_FOUND: Final = 32
"""Peers that are there only because they were found: each is a connection, and each is asked."""

# Of one key, at a time.
_MOST_PLACES: Final = 8
_NEXT_PLACE_S: Final = 0.25
# How long a URL has to answer before its peer is dialled where it was found.
_URL_S: Final = 1.0
# How long one has to be reached before others may have its place.
_USELESS_S: Final = 30.0

L = TypeVar("L", bound=Kept)


class _Found(Generic[L]):
    """One that is dialled where it was found."""

    def __init__(self, peer: Peer[Any], places: tuple[Place, ...]) -> None:
        self.peer = peer
        self.places = places
        self.link: L | None = None
        self.place: Place | None = None
        """Where `link` goes."""
        self.made: dict[L, Place] = {}
        """Connections that were made in this try."""
        self.since = asyncio.get_running_loop().time()
        self.turn = asyncio.Lock()
        """One of its places waits at a time: many of them are not to come before others."""
        self.gone = asyncio.Event()
        """Set while it cannot be asked by any connection."""
        self.dialler: Dialler[L]
        self.task: asyncio.Task[None]

    @property
    def is_of_no_use(self) -> bool:
        """It was dialled in vain for a while: its place may be another's."""
        is_old = asyncio.get_running_loop().time() - self.since >= _USELESS_S
        return is_old and self.link is None and self.dialler.state is State.WAITING


class FoundPeers(Generic[L]):
    """Keeps connections to those that were found.

    `dial` makes one to a peer at a place, within bounds of its own; raises there: ErisError,
    KaplaError, OSError. `by_url` tells how it stands with a peer that has a URL. `forget` is told
    of a peer that is there no more.
    """

    def __init__(
        self,
        table: PeerTable[Any],
        dial: Callable[[Peer[Any], Place], Awaitable[L]],
        by_url: Callable[[Peer[Any]], Dialler[Any] | None],
        forget: Callable[[Peer[Any]], None],
    ) -> None:
        self._table = table
        self._dial = dial
        self._by_url = by_url
        self._forget = forget
        self._ones: dict[PeerKey, _Found[L]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        # Whoever lies about those that were named does not hold up the others, nor they those.
        self._tries = {is_found: Tries() for is_found in (True, False)}
        self.look: Callable[[], None] = lambda: None
        """Called before anybody is dialled: what holds no more is told by `set_places` then."""
        self.came = asyncio.Event()
        """Set when the first is connected."""

    def __contains__(self, key: PeerKey) -> bool:
        return key in self._ones

    def state_of(self, key: PeerKey) -> str | None:
        """How it stands with one; None: it is not dialled."""
        one = self._ones.get(key)
        if one is None:
            return None
        return (State.CONNECTED if one.peer.link is not None else one.dialler.state).value

    def of(self, peer: Peer[Any]) -> Dialler[L] | None:
        """How it stands with a peer where it was found; None: it is not."""
        one = None if peer.key is None else self._ones.get(peer.key)
        return None if one is None else one.dialler

    def set_places(self, places: Mapping[PeerKey, Sequence[Place]]) -> None:
        """Who may be dialled from now on, and where. Those that came first have their places."""
        for key in [key for key in self._ones if key not in places]:
            self._let_go(key)
        for key, found in places.items():
            one = self._ones.get(key)
            if one is not None and (one.link is None or one.place in found):
                is_new = not set(found) <= set(one.places)
                one.places = tuple(found)
                if is_new and one.link is None:
                    # It has started again, perhaps, and its next try may be minutes away.
                    self._end(one)
                    self._dial_it(key, one)
                continue
            if one is not None:
                self._let_go(key)
            self._begin(key, tuple(found))

    def changed(self, peer: Peer[Any]) -> None:
        """A peer can be asked now, or cannot any more."""
        one = None if peer.key is None else self._ones.get(peer.key)
        if one is not None:
            _note(one)

    async def all_tried(self) -> None:
        """Wait until each of those of now is there, or was dialled in vain."""
        for one in list(self._ones.values()):
            if one.peer.link is None:
                await one.dialler.tried.wait()

    async def stop(self) -> None:
        """Let all go."""
        for key in list(self._ones):
            self._let_go(key)
        for task in list(self._ended):
            with suppress(asyncio.CancelledError):
                await task

    def _begin(self, key: PeerKey, places: tuple[Place, ...]) -> None:
        peer = self._table.with_key(key)
        if peer is None:
            if not self._has_room():
                return
            peer = self._table.found(key)
        one = self._ones[key] = _Found[L](peer, places)
        _note(one)
        self._dial_it(key, one)

    def _dial_it(self, key: PeerKey, one: _Found[L]) -> None:
        one.dialler = Dialler(
            one.peer.name,
            lambda: self._reach(key, one),
            lambda link: self._reached(one, link),
            lambda link: self._lost(one, link),
            # Strangers can announce, and take back, as often as they like.
            level=logging.DEBUG if one.peer.is_found else logging.INFO,
            level_in_vain=logging.DEBUG,
        )
        one.task = asyncio.ensure_future(one.dialler.run())

    def _has_room(self) -> bool:
        found = {key: one for key, one in self._ones.items() if one.peer.is_found}
        if len(found) < MOST_FOUND:
            return True
        useless = next((key for key, one in found.items() if one.is_of_no_use), None)
        if useless is not None:
            self._let_go(useless)
        return useless is not None

    def _let_go(self, key: PeerKey) -> None:
        one = self._ones.pop(key)
        self._end(one)
        if one.link is not None:
            self._table.left(one.link)
            one.link.give_up("it is not found any more")
        if one.peer.is_found:
            self._table.lost(one.peer)
            self._forget(one.peer)

    def _end(self, one: _Found[L]) -> None:
        """Dial it no more."""
        one.task.cancel()
        self._ended.add(one.task)
        one.task.add_done_callback(self._ended.discard)

    async def _reach(self, key: PeerKey, one: _Found[L]) -> L:
        if not one.peer.is_found:
            await self._missing(one)
        # Since it was found the network may be another.
        self.look()
        if self._ones.get(key) is not one:
            raise StoreUnavailable("it is not found any more")
        places = random.sample(one.places, min(_MOST_PLACES, len(one.places)))
        one.made.clear()
        link = await _first([partial(self._reach_at, one, place) for place in places])
        if self._ones.get(key) is not one or one.made[link] not in one.places:
            link.give_up("it is not found any more")
            raise StoreUnavailable("it is not found any more")
        return link

    async def _reach_at(self, one: _Found[L], place: Place) -> L:
        async with one.turn:
            await self._tries[one.peer.is_found].wait()
        link = await self._dial(one.peer, place)
        one.made[link] = place
        return link

    async def _missing(self, one: _Found[L]) -> None:
        """Wait until a peer that was named cannot be asked by another connection."""
        by_url = self._by_url(one.peer)
        if by_url is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(by_url.tried.wait(), _URL_S)
        await one.gone.wait()

    def _reached(self, one: _Found[L], link: L) -> None:
        one.link, one.place = link, one.made[link]
        one.peer.standing.is_near = True
        self._table.reached(one.peer, link)
        self.came.set()

    def _lost(self, one: _Found[L], link: L) -> None:
        one.link = one.place = None
        # By a URL it may be reached from anywhere.
        one.peer.standing.is_near = False
        self._table.left(link)


def _note(one: _Found[Any]) -> None:
    if one.peer.link is None:
        one.gone.set()
    else:
        one.gone.clear()


async def _first(tries: Sequence[Callable[[], Awaitable[L]]]) -> L:
    """The first connection that is made; each try begins a little after the one before it.

    Raises: what the last try that fails does.
    """
    waiting, running = list(tries), set[asyncio.Future[L]]()
    error: BaseException = StoreUnavailable("it is nowhere")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            pause_s = _NEXT_PLACE_S if waiting else None
            done, running = await asyncio.wait(
                running, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
            )
            links = [one.result() for one in done if one.exception() is None]
            for late in links[1:]:
                late.give_up("it was reached at another place first")
            if links:
                return links[0]
            error = next((e for one in done if (e := one.exception()) is not None), error)
        raise error
    finally:
        await _ended(running)


async def _ended(running: set[asyncio.Future[L]]) -> None:
    """What is still tried is tried no more."""
    for one in running:
        one.cancel()
    if running:
        await asyncio.wait(running)
    for one in running:
        if not one.cancelled() and one.exception() is None:
            one.result().give_up("it was reached at another place first")

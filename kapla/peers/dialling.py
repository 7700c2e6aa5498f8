"""Connections to peers, kept open: dialled, watched while nothing is said on them, dialled anew.

Between two tries the pause doubles, from a second to five minutes, and starts at a second again
once a connection has held for a minute. The log tells when a peer goes and when it is back, and
nothing of the tries between: what they meet is told by `kapla peers`.

On a connection without traffic a Ping goes out each minute. It keeps the place that a NAT has for
the connection, and an end that has vanished without a word is noticed when two are not answered.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

from eris.errors import ErisError
from kapla.errors import KaplaError
from kapla.peers.table import Peer, PeerTable, Usable

__all__ = ["Dialler", "Dialling", "Kept", "State"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 300.0
# Of a pause, so that those who lost one peer at once do not all come back at once.
_JITTER: Final = 0.25
# Whoever takes connections only to close them is not dialled each second for ever.
_HELD_S: Final = 60.0
# Many a NAT forgets a connection after minutes; RFC 5382 asks for two hours, few keep to it.
_IDLE_S: Final = 60.0
_MISSED_PINGS: Final = 2
# What a peer says of why it goes may be long.
_LONGEST_WHY: Final = 200


class State(Enum):
    """How it stands with a peer that we dial."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """For the next try."""


class Kept(Usable, Protocol):
    """A connection that is kept open."""

    @property
    def heard_at(self) -> float:
        """When something came on it, by the loop's clock."""
        ...

    def ping(self) -> None:
        """Ask the other end for a sign of life."""
        ...

    def give_up(self, reason: str) -> None:
        """End it at once."""
        ...

    async def wait_closed(self) -> str:
        """Wait until it has ended; returns why, for people."""
        ...


L = TypeVar("L", bound=Kept)


class Dialler(Generic[L]):
    """Keeps a connection to one peer open.

    `dial` makes one, greeting included, within bounds of its own. `chance`: from 0 to 1. `level` is
    that of the log for what happens to connections, `level_in_vain` for those that are not made.
    """

    def __init__(
        self,
        name: str,
        dial: Callable[[], Awaitable[L]],
        on_connected: Callable[[L], None],
        on_lost: Callable[[L], None] = lambda link: None,
        chance: Callable[[], float] = random.random,
        *,
        level: int = logging.INFO,
        level_in_vain: int = logging.INFO,
    ) -> None:
        self.state = State.CONNECTING
        self.why: str | None = None
        """What the last try met, or how the last connection ended; None while there is one."""
        self.next_try_at: float | None = None
        """When the next try is, by the loop's clock, while it waits for that."""
        self._name = name
        self._dial = dial
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._chance = chance
        self._level = level
        self._level_in_vain = level_in_vain
        self.tried = asyncio.Event()
        """Set when the first try is over."""
        self._tries = 0
        self._said_gone = False

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self.state, self.next_try_at = State.CONNECTING, None
            try:
                link = await self._dial()
            except (ErisError, KaplaError, OSError) as error:
                why = getattr(error, "reason", None) or str(error)
                self._note_gone("cannot be reached", why, self._level_in_vain)
            except Exception:
                # Whatever one peer does, it is dialled again.
                _log.exception("Dialling failed")
                self.why = "this daemon failed: see its log"
            else:
                await self._hold(link)
            self.tried.set()
            await self._pause()

    async def _hold(self, link: L) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        self.state, self.why, self._said_gone = State.CONNECTED, None, False
        _log.log(self._level, "Peer %s is connected", self._name)
        self._on_connected(link)
        self.tried.set()
        try:
            why = await _watch(link)
        finally:
            self._on_lost(link)
        if loop.time() - begin >= _HELD_S:
            self._tries = 0
        self._note_gone("is gone", why, self._level)

    def _note_gone(self, what: str, why: str, level: int) -> None:
        self.why = why = why[:_LONGEST_WHY]
        if not self._said_gone:
            self._said_gone = True
            _log.log(level, "Peer %s %s: %s", self._name, what, why)

    async def _pause(self) -> None:
        pause_s = min(_FIRST_PAUSE_S * 2.0**self._tries, _LONGEST_PAUSE_S)
        if pause_s < _LONGEST_PAUSE_S:
            self._tries += 1
        pause_s *= 1 - _JITTER + 2 * _JITTER * self._chance()
        self.state = State.WAITING
        self.next_try_at = asyncio.get_running_loop().time() + pause_s
        await asyncio.sleep(pause_s)


async def _watch(link: Kept) -> str:
    """Ping while nothing comes, until the connection has ended; returns why it has."""
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(link.wait_closed())
    heard_at, quiet_since, pings = link.heard_at, loop.time(), 0
    try:
        while True:
            timeout = max(0.0, quiet_since + _IDLE_S - loop.time())
            await asyncio.wait([ended], timeout=timeout)
            if ended.done():
                return ended.result()
            if link.heard_at != heard_at:
                heard_at = quiet_since = link.heard_at
                pings = 0
            elif pings == _MISSED_PINGS:
                link.give_up("it gives no sign of life")
                return await ended
            else:
                link.ping()
                quiet_since, pings = loop.time(), pings + 1
    finally:
        ended.cancel()


class Dialling(Generic[L]):
    """Keeps connections to all peers that are dialled, and tells the table of each.

    `dial` makes one to a peer. Raises there: ErisError, KaplaError, OSError.
    """

    def __init__(self, table: PeerTable[Any], dial: Callable[[Peer[Any]], Awaitable[L]]) -> None:
        self._table = table
        self._diallers: dict[int, Dialler[L]] = {
            peer.number: self._dialler(peer, dial)
            for peer in table
            if peer.settings.url is not None
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to dial."""
        self._tasks = [asyncio.ensure_future(one.run()) for one in self._diallers.values()]

    async def stop(self) -> None:
        """Dial no more. What is connected stays so: whoever has the connections ends them."""
        await _cancelled(self._tasks)

    async def all_tried(self) -> None:
        """Wait until each was dialled once, in vain or not."""
        for one in self._diallers.values():
            await one.tried.wait()

    def of(self, peer: Peer[Any]) -> Dialler[L] | None:
        """How it stands with a peer; None, if it dials us."""
        return self._diallers.get(peer.number)

    def _dialler(self, peer: Peer[Any], dial: Callable[[Peer[Any]], Awaitable[L]]) -> Dialler[L]:
        return Dialler(
            peer.name,
            lambda: dial(peer),
            lambda link: self._table.reached(peer, link),
            self._table.left,
        )


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task

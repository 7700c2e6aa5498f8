"""Connections of clients: aiohttp's, bounded in number, in time, and in what they leave untaken.

A client has half a minute from the first byte of a request to the end of its head, and may be idle
for a while between requests. While it is sent something it must take a little at least. When there
are too many, whoever takes least makes room: first those that are silent, be it that they ask for
nothing or that they take nothing, and one that makes progress only if all do. Whoever only holds
connections keeps nobody out. There is no limit for an address: behind one there may be many.

What counts as a connection here is what the kernel tells of: in from `connection_made`, out at
`connection_lost`, whatever becomes of its task in between.

Requests of one connection are answered one after the other. What a connection does beside that is
its own: whoever makes `Connections` says how one is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from eris.allocator import give_back_all
from kapla.http.serving.connection import Connection
from kapla.http.serving.tally import Tally

__all__ = ["ConnectionLimits", "Connections", "Refused"]

_log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
"""All are looked at so often: some microseconds for each that is answered."""
_LOOK_AGAIN_S: Final = 0.25
"""What is known of all is good for so long when room must be made."""
_WORK_FOR_GONE: Final = 2048
"""Clients that have gone, for whom something is under way: far more than come at once."""
_MANY: Final = 32
"""When so many fewer are connected than there were, memory is given back."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refused = Callable[[Connection, int], None]
"""Is told the status of a reply that no handler makes."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may take; times in seconds."""

    connections: int = 512
    """At once. Each takes up to five file descriptors and some 500 KiB."""
    head_s: float = 30.0
    """From the first byte of a request to the end of its head; for the first request, from the
    beginning of the connection."""
    idle_s: float = 120.0
    """Between requests."""
    window_s: float = 120.0
    """In this time a client must take something, if there is anything to take: on average,"""
    least_rate: float = 512.0
    """so many bytes a second, half of a line of 9600 baud, as the fetcher wants it of servers."""


class Connections(web.Server):
    """All connections: makes them as they come in, and keeps their number."""

    def __init__(
        self,
        handler: _Handler,
        limits: ConnectionLimits,
        refused: Refused,
        make: type[Connection] | Callable[..., Connection] = Connection,
    ) -> None:
        """`make` is called as `Connection` is: with the server, what it notes, and its times."""
        # What nobody waits for any more is not worked on either, and what has not begun never is.
        super().__init__(handler, handler_cancellation=True)
        self._make = make
        self._limits = limits
        self._refused = refused
        self._live: dict[Connection, None] = {}
        self._most = 0
        self._looked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._full = Tally(_log, "%d more clients had to go, as there were too many")
        self._cut_off = Tally(_log, "%d more replies were cut off", at_once=10)

    def limit(self, connections: int) -> None:
        """Let so many be there at once; those that are there are not sent away for it."""
        self._limits = replace(self._limits, connections=connections)

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._live)

    def __bool__(self) -> bool:
        """It is there, also when nobody is."""
        return True

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        limits = self._limits
        return self._make(
            self,
            self._cut_off,
            self._refused,
            head_s=limits.head_s,
            idle_s=limits.idle_s,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in; if there are too many, another must go."""
        super().connection_made(handler, transport)
        assert isinstance(handler, Connection)
        self._live[handler] = None
        self._most = max(self._most, len(self._live))
        if len(self._live) > self._limits.connections:
            self._make_room(handler)
        if self._timer is None:
            self._look_later()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a connection that has ended."""
        assert isinstance(handler, Connection)
        self._live.pop(handler, None)
        super().connection_lost(handler, exc)

    def _make_room(self, newcomer: Connection) -> None:
        now = self._loop.time()
        if now - self._looked_at >= _LOOK_AGAIN_S:
            self._look_at_all(now)
        others = [one for one in self._live if one is not newcomer]
        if not others or self._is_stuck():
            least = newcomer
        else:
            least = min(others, key=lambda one: one.standing(now, self._limits.least_rate))
        self._full.note("There are more than %d clients: one had to go", self._limits.connections)
        self._send_away(least, "others wanted its place")

    def _is_stuck(self) -> bool:
        """Whether too much is under way for clients that have gone.

        What a thread does for them ends first; with a disk that hangs it must not become ever more.
        """
        gone = sum(isinstance(one, Connection) and one.lost for one in self.connections)
        return gone > _WORK_FOR_GONE

    def _send_away(self, connection: Connection, reason: str) -> None:
        # It counts no more, though it may take a moment until it has gone.
        self._live.pop(connection, None)
        connection.send_away(reason)

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._look_at_all(now)
        for one in tuple(self._live):
            if not one.taking.is_enough(now, self._limits.window_s, self._limits.least_rate):
                self._send_away(one, "the client took too little of it")
        if self._most - len(self._live) >= _MANY:
            self._most = len(self._live)
            # Off the loop: it goes through all there is.
            self._loop.run_in_executor(None, give_back_all)
        if self._live:
            self._look_later()
        else:
            self._most = 0

    def _look_at_all(self, now: float) -> None:
        self._looked_at = now
        for one in self._live:
            if one.busy_since is not None:
                one.look(now)

"""A connection by HTTP whose requests are read and answered in turn.

All that is done for it is measured: taking bytes apart when they come, and each step of the tasks
in which aiohttp answers. What came is not even taken apart before the turn; meanwhile no more is
read, so that one read of the socket is all that is kept.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kapla.coap import shares
from kapla.coap.allowance import Allowance
from kapla.coap.sockets import is_reset, spread_output
from kapla.coap.steps import Begun
from kapla.coap.traffic import Place, Visit
from kapla.coap.turns import Line
from kapla.http.serving.connection import Connection
from kapla.http.serving.connections import Connections
from kapla.http.turns.pace import Pace
from kapla.storage.access import Statistics

__all__ = ["PacedConnection"]


class PacedConnection(Connection):
    """One connection."""

    __slots__ = ("_is_held", "_place", "_statistics", "_unread", "_visit", "pace")

    def __init__(
        self,
        line: Line,
        allowance: Allowance | None,
        statistics: Statistics,
        place: Place | None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.pace = Pace(line, allowance, self._feed, self._is_gone)
        self._statistics = statistics
        self._place = place
        self._visit: Visit | None = None
        self._unread = b""
        self._is_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there: it counts until `left`."""
        self._statistics.connections += 1
        self._statistics.open_connections += 1
        # A batch is a burst, of which a slow router would lose the end.
        spread_output(transport)
        with self.pace.turn:
            super().connection_made(transport)
        if self._place is not None:
            self._visit = self._place.enter(self.pace.origins, self.client)

    def left(self) -> None:
        """The client has gone."""
        self._statistics.open_connections -= 1
        self._unread = b""
        self.pace.leave()
        if self._place is not None and self._visit is not None:
            self._place.leave(self._visit)

    def data_received(self, data: bytes) -> None:
        """Take apart what came; or keep it, and no more, until the turn comes."""
        if not data:
            # By which aiohttp goes on with what it has not taken apart itself.
            super().data_received(data)
            return
        with self.pace.turn:
            waits = bool(self._unread)
            self._unread += data
            if waits:
                self._hold()
            else:
                self._feed()

    @property
    def share(self) -> int:
        """Blocks that may be looked up for it at once: the fewer, the more are connected."""
        fellows = self._manager
        count = len(fellows) if isinstance(fellows, Connections) else 1
        return shares.weight(max(1, count)) // shares.LARGE_WEIGHT

    async def start(self) -> None:
        """Answer requests, one after the other, until the end."""
        await Begun(super().start(), self.pace.turn)

    def _feed(self) -> None:
        while self._unread and not self.lost and self.pace.turn.may_go_on():
            most = self.pace.turn.at_once(len(self._unread))
            data, self._unread = self._unread[:most], self._unread[most:]
            super().data_received(data)
        if self._unread:
            self._hold()
        elif self._is_held:
            self._is_held = False
            # Where aiohttp has reasons of its own not to read, it goes on by itself.
            if self._wire is not None and not (self._reading_paused or self._buffer_paused):
                self._wire.resume_reading()

    def _hold(self) -> None:
        self._is_held = True
        if self._wire is not None:
            self._wire.pause_reading()

    def _is_gone(self) -> bool:
        """Whether the client has gone, which nobody tells while it is not read from; then end."""
        if self._wire is None:
            return True
        if not is_reset(self._wire):
            return False
        self.abort()
        return True

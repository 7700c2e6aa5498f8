"""The daemon's doors by HTTP: opened and closed with it.

Imported when there is one to open: aiohttp takes a third of a second.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from kapla.coap.allowance import Allowance
from kapla.coap.beyond import Reach
from kapla.coap.traffic import Place
from kapla.coap.turns import Line
from kapla.handed import Handed
from kapla.http.admin import answering as admin
from kapla.http.admin.place import ADMIN_CONNECTIONS, bind_admin, http_url_of
from kapla.http.admin.streaming import Streams
from kapla.http.door import answering as door
from kapla.http.serving.connections import ConnectionLimits
from kapla.http.subject import DaemonSubject, Report
from kapla.http.turns.connection import PacedConnection
from kapla.http.turns.listener import Answer, Listener
from kapla.sockets import BoundUnixSocket, bind_tcp
from kapla.storage.access import BlockAccess, Statistics
from kapla.urls import StoreUrl

__all__ = ["ADMIN_CONNECTIONS", "Doors"]


_GRACE_S: Final = 5.0


class Doors:
    """All of them. `line` makes a place in the daemon's turns, for each.

    `handed`: sockets that the service manager has opened for them.
    """

    def __init__(
        self, statistics: Statistics, line: Callable[[], Line], handed: Handed | None = None
    ) -> None:
        self._handed = handed
        self._statistics = statistics
        self._line = line
        self._listeners: list[Listener] = []
        self._unix_sockets: list[BoundUnixSocket] = []
        self._open_to_all: list[Listener] = []
        self._streams = Streams()

    async def open_door(
        self,
        place: StoreUrl,
        access: BlockAccess,
        allowance: Allowance,
        most: int,
        traffic: Place | None = None,
        reach: Reach | None = None,
    ) -> list[str]:
        """Give blocks to whoever asks, to so many clients at a time; returns where.

        `traffic`: where it is counted what they are given; `reach`: the seeds that are asked for
        what is not lent. Raises: ListenError.
        """
        sockets = bind_tcp(place, self._handed)
        await self._serve(sockets, door.Answering(access, reach), most, allowance, traffic)
        self._open_to_all.append(self._listeners[-1])
        return [http_url_of(one) for one in sockets]

    async def open_admin(
        self, place: StoreUrl, report: Report, token: str
    ) -> tuple[list[str], str | None]:
        """Tell this machine of the daemon; returns where, and where its page is.

        Raises: ListenError.
        """
        subject = DaemonSubject(report)
        bound = bind_admin(place, self._handed)
        if bound.unix_socket is not None:
            self._unix_sockets.append(bound.unix_socket)
        for one in bound.sockets:
            answering = admin.Answering(subject, one.names, token, self._streams)
            await self._serve([one.socket], self._in_turn(answering), ADMIN_CONNECTIONS)
        return [one.text for one in bound.sockets], bound.url

    def limit(self, most: int) -> None:
        """Let so many clients at a time come by each door to blocks."""
        for listener in self._open_to_all:
            listener.limit(most)

    async def close(self) -> None:
        """Take no more requests, answer those under way for some seconds, and end."""
        self._streams.stop()
        for unix_socket in self._unix_sockets:
            unix_socket.remove()
        await asyncio.gather(*(listener.stop() for listener in self._listeners))

    def _in_turn(self, answering: admin.Answering) -> Answer:
        """What tells of the daemon, beside all that the daemon does."""

        async def answer(
            request: web.BaseRequest, connection: PacedConnection
        ) -> web.StreamResponse:
            self._statistics.other += 1
            return await answering(request, lambda: connection.pace.room(0))

        return answer

    async def _serve(
        self,
        sockets: Sequence[socket.socket],
        answer: Answer,
        most: int,
        allowance: Allowance | None = None,
        traffic: Place | None = None,
    ) -> None:
        limits = ConnectionLimits(most)
        listener = Listener(
            answer, self._line(), self._statistics, limits, _GRACE_S, allowance, traffic
        )
        self._listeners.append(listener)
        await listener.start(sockets)

"""The daemon's doors by HTTP: opened and closed with it.

Imported when there is one to open: aiohttp takes a third of a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from kapla.coap.allowance import Allowance
from kapla.coap.turns import Line
from kapla.errors import ListenError
from kapla.handed import Handed
from kapla.http.admin import answering as admin
from kapla.http.admin.asking import names_of
from kapla.http.door import answering as door
from kapla.http.serving.connections import ConnectionLimits
from kapla.http.settings import is_loopback
from kapla.http.turns.listener import Answer, Listener
from kapla.sockets import BoundUnixSocket, bind_tcp, bind_unix
from kapla.storage.access import BlockAccess, Statistics
from kapla.urls import StoreUrl, UnixEndpoint

__all__ = ["ADMIN_CONNECTIONS", "Doors"]

_log = logging.getLogger(__name__)

ADMIN_CONNECTIONS: Final = 32
"""To `admin`, at a time: a browser has six, and who collects figures one."""

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

    async def open_door(
        self, place: StoreUrl, access: BlockAccess, allowance: Allowance, most: int
    ) -> list[str]:
        """Give blocks to whoever asks, to so many clients at a time; returns where.

        Raises: ListenError.
        """
        sockets = bind_tcp(place, self._handed)
        await self._serve(sockets, door.Answering(access), most, allowance)
        return [_named(one) for one in sockets]

    async def open_admin(
        self,
        place: StoreUrl,
        report: Callable[[], Awaitable[object]],
        peers: Callable[[], object],
    ) -> list[str]:
        """Tell this machine of the daemon; returns where.

        Raises: ListenError.
        """

        async def listed() -> object:
            return peers()

        pages = {"/status": admin.facts_page(report), "/peers": admin.facts_page(listed)}
        if isinstance(place.endpoint, UnixEndpoint):
            bound = bind_unix(place, is_default=False, handed=self._handed)
            self._unix_sockets.append(bound)
            answer = admin.Answering(pages, None, self._statistics)
            await self._serve([bound.socket], answer, ADMIN_CONNECTIONS)
            return [str(place)]
        sockets = bind_tcp(place, self._handed)
        for one in sockets:
            host, port = one.getsockname()[:2]
            if not is_loopback(host):
                _close(sockets)
                raise ListenError(f"cannot listen on {place}: {host} is not the loopback interface")
            answer = admin.Answering(pages, names_of(host, port), self._statistics)
            await self._serve([one], answer, ADMIN_CONNECTIONS)
        return [_named(one) for one in sockets]

    async def close(self) -> None:
        """Take no more requests, answer those under way for some seconds, and end."""
        for unix_socket in self._unix_sockets:
            unix_socket.remove()
        await asyncio.gather(*(listener.stop() for listener in self._listeners))

    async def _serve(
        self,
        sockets: Sequence[socket.socket],
        answer: Answer,
        most: int,
        allowance: Allowance | None = None,
    ) -> None:
        limits = ConnectionLimits(most)
        listener = Listener(answer, self._line(), self._statistics, limits, _GRACE_S, allowance)
        self._listeners.append(listener)
        await listener.start(sockets)


def _named(one: socket.socket) -> str:
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()

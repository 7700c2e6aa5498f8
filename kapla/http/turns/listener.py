"""A listener for HTTP: sockets, connections in turn, and an answer for each request.

Whoever answers makes a reply, or sends one itself. What cannot be finished ends the connection in
the middle, so that nobody takes it for the whole.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from eris.errors import ErisError
from kapla.coap.allowance import Allowance
from kapla.coap.steps import Begun
from kapla.coap.traffic import Place
from kapla.coap.turns import Line
from kapla.http.serving.connection import SERVER_NAME, Connection
from kapla.http.serving.connections import ConnectionLimits, Connections
from kapla.http.serving.listening import serve_on
from kapla.http.turns.connection import PacedConnection
from kapla.storage.access import Statistics

__all__ = ["Answer", "Listener"]

_log = logging.getLogger(__name__)

_BACKLOG: Final = 128
"""Clients that wait to be let in."""
_LET_IN_AT_ONCE: Final = 16
"""And then others have their turn: to let one in takes as long as a request."""

Answer = Callable[[web.BaseRequest, PacedConnection], Awaitable[web.StreamResponse]]
"""Makes a reply, which may be on its way already.

Raises: ErisError, OSError, if that cannot go on.
"""


class Listener:
    """Answers on sockets until it is stopped.

    `line`: of the event loop's time. `allowance`: what all clients together may take; None: any.
    `place`: where it is counted what they are given.
    """

    def __init__(
        self,
        answer: Answer,
        line: Line,
        statistics: Statistics,
        limits: ConnectionLimits,
        grace_s: float,
        allowance: Allowance | None = None,
        place: Place | None = None,
    ) -> None:
        self._answer = answer
        self._statistics = statistics
        make = partial(PacedConnection, line, allowance, statistics, place)
        self._server = Connections(self._handle, limits, self._refused, make)
        # It waits for replies, and then for what it has broken off.
        self._runner = web.ServerRunner(self._server, shutdown_timeout=grace_s / 2)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound.

        Raises: OSError.
        """
        await serve_on(self._runner, sockets, at_once=_LET_IN_AT_ONCE, backlog=_BACKLOG)

    def limit(self, most: int) -> None:
        """Let so many clients be there at a time."""
        self._server.limit(most)

    async def stop(self) -> None:
        """Take no more requests, give replies under way some seconds, and end."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, PacedConnection)
        with connection.answering():
            return await Begun(self._reply(request, connection), connection.pace.turn)

    async def _reply(
        self, request: web.BaseRequest, connection: PacedConnection
    ) -> web.StreamResponse:
        try:
            response = await self._answer(request, connection)
            response.headers.setdefault("Server", SERVER_NAME)
            await response.prepare(request)
            await response.write_eof()
            return response
        except ConnectionError as error:
            _log.debug("A reply was not taken: %r", error)
        except (ErisError, OSError) as error:
            # How often is up to strangers: the store has said it where it happened.
            _log.debug("A reply was broken off: %s", error)
        except BaseException:
            connection.abort()
            raise
        connection.abort()
        # Which goes nowhere, and tells aiohttp nothing that it would log.
        return web.Response(status=503)

    def _refused(self, connection: Connection, status: int) -> None:
        """What is no request was answered."""
        self._statistics.other += 1

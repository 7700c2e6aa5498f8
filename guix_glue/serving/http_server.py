"""The HTTP shell: aiohttp takes requests apart and keeps their order, `site` answers them.

Every reply has a Content-Length and, unless the client wants otherwise, leaves the connection open.
One that turns out to be of another size than promised, or cannot be finished, ends the connection
in the middle, so that nobody takes it for whole.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from aiohttp import hdrs, web

from eris.errors import ErisError
from guix_glue.serving.conditions import conditional
from guix_glue.serving.connection import connections_to
from guix_glue.serving.journal import Journal
from guix_glue.serving.reply import Reply, Request
from guix_glue.serving.request_log import Exchange
from guix_glue.serving.requests import Requests
from guix_glue.serving.sending import Sending
from guix_glue.serving.site import Site
from kapla.http.serving.connection import SERVER_NAME, Connection
from kapla.http.serving.connections import ConnectionLimits, Connections
from kapla.http.serving.listening import serve_on

__all__ = ["HttpServer"]

_log = logging.getLogger(__name__)

_GRACE_S: Final = 5.0
_BACKLOG: Final = 1024
"""Clients that wait to be let in; Linux has a limit of its own, `net.core.somaxconn`."""
_LET_IN_AT_ONCE: Final = 64
"""And then what those do comes first that were let in: many may have gone again."""


class HttpServer:
    """A site behind listening sockets."""

    def __init__(
        self,
        site: Site,
        limits: ConnectionLimits,
        request_log: Journal | None = None,
        requests: Requests | None = None,
    ) -> None:
        """`requests`: where they are counted."""
        self._site = site
        self._request_log = request_log
        self._requests = requests
        self._connections = Connections(self._handle, limits, self._refused, connections_to(site))
        self._runner = web.ServerRunner(self._connections, shutdown_timeout=_GRACE_S)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound.

        Raises: OSError.
        """
        await serve_on(self._runner, sockets, at_once=_LET_IN_AT_ONCE, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Take no more connections, give replies under way a few seconds, and end."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        with connection.answering(), self._noted(connection, request) as exchange:
            asked = _asked(request)
            reply = conditional(asked, await self._site.answer(asked))
            exchange.status = reply.status
            try:
                return await _send(connection, request, reply, exchange)
            finally:
                reply.close()

    @contextmanager
    def _noted(self, connection: Connection, request: web.BaseRequest) -> Iterator[Exchange]:
        exchange = Exchange(connection.client, request.method, _path(request))
        exchange.version = f"HTTP/{request.version.major}.{request.version.minor}"
        exchange.agent = request.headers.get(hdrs.USER_AGENT, "")
        try:
            yield exchange
        finally:
            self._note(exchange)

    def _refused(self, connection: Connection, status: int) -> None:
        """What is no request was answered."""
        self._note(Exchange(connection.client, status=status, whole=True))

    def _note(self, exchange: Exchange) -> None:
        if self._requests is not None:
            self._requests.answered(
                exchange.path, exchange.status, exchange.sent, whole=exchange.whole
            )
        if self._request_log is not None:
            exchange.end()
            self._request_log.note(exchange)


async def _send(
    connection: Connection, request: web.BaseRequest, reply: Reply, exchange: Exchange
) -> web.StreamResponse:
    response = _response(reply)
    sending = Sending(request, response, reply)
    try:
        await sending.run()
        exchange.whole = True
    except ConnectionError as error:
        _log.debug("A reply was not taken: %r", error)
        connection.abort()
    except (ErisError, OSError) as error:
        _log.warning("A reply was broken off: %s", error)
        connection.abort()
    except BaseException:
        connection.cut_off(sending.sent, reply.size)
        connection.abort()
        raise
    finally:
        exchange.sent = sending.sent
    return response


def _response(reply: Reply) -> web.StreamResponse:
    headers = {"Content-Type": reply.content_type, "Server": SERVER_NAME, **dict(reply.headers)}
    if reply.max_age_s is not None:
        headers["Cache-Control"] = f"max-age={reply.max_age_s}"
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, body=reply.body, headers=headers)
    headers["Content-Length"] = str(reply.size)
    return web.StreamResponse(status=reply.status, headers=headers)


def _asked(request: web.BaseRequest) -> Request:
    return Request(
        request.method,
        _path(request),
        _only(request, hdrs.RANGE),
        _only(request, hdrs.IF_RANGE),
        _only(request, hdrs.IF_NONE_MATCH),
    )


def _only(request: web.BaseRequest, name: str) -> str | None:
    """A header; lines of the same name are one list, and of what is no list there is none."""
    values = request.headers.getall(name, ())
    return ",".join(values) if values else None


def _path(request: web.BaseRequest) -> str:
    """The path as it was sent; of a whole URL, as proxies send it, the path of that."""
    sent = request.raw_path
    if not sent.startswith("/"):
        sent = request.rel_url.raw_path
    return sent.partition("?")[0]

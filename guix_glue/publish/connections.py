"""Connections of clients: aiohttp's, bounded in number and in the time that they may waste.

A client has half a minute from the first byte of a request to the end of its head, and may be idle
for a while between requests. When there are too many, the one that has been idle for longest makes
room: whoever only holds connections keeps nobody out.

Requests of one connection are answered one after the other. Clients send a thousand before they
read a reply, so what is asked for is shown to the site as it arrives: a source that has to ask
others can do so for all of them at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from guix_glue.publish.clients import Client, working_for
from guix_glue.publish.site import Site

__all__ = ["SERVER_NAME", "Connection", "ConnectionLimits", "Connections"]

_log = logging.getLogger(__name__)

SERVER_NAME: Final = "kapla"
"""All that the header `Server` tells."""

_NARINFOS: Final = re.compile(rb"(?:^|\n)GET (/[!-~]{1,300}\.narinfo) HTTP/1")

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may take; times in seconds."""

    connections: int = 512
    """At once. Each takes up to two file descriptors."""
    head_s: float = 30.0
    """From the first byte of a request to the end of its head; for the first request, from the
    beginning of the connection."""
    idle_s: float = 120.0
    """Between requests."""


class Connection(web.RequestHandler):
    """One connection. `busy` while it is sent a reply, idle since a time of the loop otherwise."""

    __slots__ = ("_client", "_head_s", "_head_timer", "_site", "busy", "idle_since")

    def __init__(self, site: Site, server: Connections, limits: ConnectionLimits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_log,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=limits.idle_s,
        )
        self._site = site
        self._client = Client()
        self._head_s = limits.head_s
        self._head_timer: asyncio.TimerHandle | None = None
        self.busy = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self.idle_since = self._loop.time()
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone, or was sent away."""
        self._client.leave()
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Look for requests; one that is cut in two is missed, and only answered later."""
        if asked := _NARINFOS.findall(data):
            with working_for(self._client):
                self._site.expect([path.decode("ascii", "replace") for path in asked])
        if data and not self.busy:
            self._await_head()
        super().data_received(data)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request is whole, and is answered in this context."""
        self._forget_head()
        self.busy = True
        try:
            with working_for(self._client):
                yield
        finally:
            self.busy = False
            self.idle_since = self._loop.time()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to what is no request, or if we fail; tells nothing of what runs here."""
        if status >= 500:
            _log.error("A reply failed", exc_info=exc)
        else:
            _log.debug("This is no request: %r", exc)
        if request.writer.output_size > 0:
            raise ConnectionError("some of the reply has been sent")
        text = "Bad request" if status < 500 else "Internal error"
        response = web.Response(status=status, text=text, headers={"Server": SERVER_NAME})
        response.force_close()
        return response

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._head_s, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        _log.debug("A client sends no whole request")
        self.force_close()


class Connections(web.Server):
    """All connections: makes them as they come in, and keeps their number."""

    def __init__(self, site: Site, handler: _Handler, limits: ConnectionLimits) -> None:
        super().__init__(handler)
        self._site = site
        self._limits = limits

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return Connection(self._site, self, self._limits)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in; if there are too many, one that is idle must go."""
        super().connection_made(handler, transport)
        connected = [one for one in self.connections if one.connected]
        if len(connected) > self._limits.connections:
            # At least the new one is.
            idle = [one for one in connected if isinstance(one, Connection) and not one.busy]
            min(idle, key=lambda one: one.idle_since).force_close()
            _log.debug("A client had to go: there are %d", len(connected))

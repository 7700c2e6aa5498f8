"""The door of a publisher, or a proxy, through which this machine sees what it does.

It is that of the daemon (`kapla.http.admin`), apart from what clients ask. Where the page is, with
the token that shows everything there, is written into a file that only the server's user may read:
another one in each run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from guix_glue.kept.directory import CacheDirectory
from kapla.http.admin.answering import Answering
from kapla.http.admin.place import ADMIN_CONNECTIONS, AdminPlace
from kapla.http.admin.streaming import Streams
from kapla.http.serving.connection import SERVER_NAME, Connection
from kapla.http.serving.connections import ConnectionLimits, Connections
from kapla.http.serving.listening import serve_on
from kapla.status.subject import Subject

__all__ = ["URL_FILE", "admin_door"]

_log = logging.getLogger(__name__)

URL_FILE: Final = "status-url"
"""In the cache directory: where the page is, and what shows everything there."""

_TOKEN_BYTES: Final = 24
_GRACE_S: Final = 2.0
_BACKLOG: Final = 128
_LET_IN_AT_ONCE: Final = 16


@asynccontextmanager
async def admin_door(
    place: AdminPlace | None,
    subject: Subject,
    directory: CacheDirectory,
    what: str = "publisher",
) -> AsyncIterator[None]:
    """Tell this machine of the server meanwhile, if there is a place for that.

    Raises: OSError.
    """
    if place is None:
        yield
        return
    token, streams = secrets.token_urlsafe(_TOKEN_BYTES), Streams()
    runners: list[web.ServerRunner] = []
    file = directory.path / URL_FILE
    try:
        for one in place.sockets:
            answering = Answering(subject, one.names, token, streams)
            server = Connections(
                _handler(answering), ConnectionLimits(ADMIN_CONNECTIONS), _refused, Connection
            )
            runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
            runners.append(runner)
            await serve_on(runner, [one.socket], at_once=_LET_IN_AT_ONCE, backlog=_BACKLOG)
            _log.info("Telling of the %s on %s", what, one.text)
        if place.url is not None:
            _note(directory, file, f"{place.url}/#{token}\n")
        yield
    finally:
        streams.stop()
        with suppress(OSError):
            file.unlink()
        if place.unix_socket is not None:
            place.unix_socket.remove()
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def _note(directory: CacheDirectory, file: Path, text: str) -> None:
    """Where the page is; what is served is worth more than that."""
    try:
        directory.write(file, text.encode())
    except OSError as error:
        _log.warning("The page shows numbers only: cannot write %s: %s", file, error.strerror)


def _handler(
    answering: Answering,
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Answers with what is known of who may stay, and how much is taken."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        with connection.answering():
            try:
                response = await answering(request, lambda: asyncio.sleep(0))
            except ConnectionError as error:
                _log.debug("A reply was not taken: %r", error)
                connection.abort()
                return web.Response(status=503)
            response.headers.setdefault("Server", SERVER_NAME)
            return response

    return handle


def _refused(connection: Connection, status: int) -> None:
    """What is no request was answered; nobody counts these here."""

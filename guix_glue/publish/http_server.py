"""The HTTP shell: aiohttp takes requests apart and keeps their order, `site` answers them.

Every reply has a Content-Length and, unless the client wants otherwise, leaves the connection open;
a body that turns out to be of another size than promised ends the connection in the middle, so that
nobody takes it for whole. Files go out by sendfile, nars in pieces that a worker thread makes, one
at a time, as fast as the client takes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from eris.errors import ErisError
from eris.threads import in_thread
from guix_glue.publish.connections import (
    SERVER_NAME,
    Connection,
    ConnectionLimits,
    Connections,
)
from guix_glue.publish.model import FetchedBody, FileBody, Reply, Request, StreamBody
from guix_glue.publish.site import Site

__all__ = ["HttpServer"]

_log = logging.getLogger(__name__)

_STALLED_S: Final = 300.0
"""A client that takes nothing for so long is given up: it keeps files and memory in use."""
_FILE_STEP: Final = 16 * 1024 * 1024
_GRACE_S: Final = 5.0
_BACKLOG: Final = 1024


class HttpServer:
    """A site behind listening sockets."""

    def __init__(self, site: Site, limits: ConnectionLimits) -> None:
        self._site = site
        server = Connections(site, self._handle, limits)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound.

        Raises: OSError.
        """
        await self._runner.setup()
        for one in sockets:
            await web.SockSite(self._runner, one, backlog=_BACKLOG).start()

    async def stop(self) -> None:
        """Take no more connections, give replies under way a few seconds, and end."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        with connection.answering():
            reply = await self._site.answer(Request(request.method, _path(request)))
            response = _response(reply)
            try:
                await _send(request, response, reply)
            except (ConnectionError, TimeoutError) as error:
                _log.debug("A reply was not taken: %r", error)
                _abort(request)
            except (ErisError, OSError) as error:
                _log.warning("A reply was broken off: %s", error)
                _abort(request)
            finally:
                reply.close()
            return response


def _response(reply: Reply) -> web.StreamResponse:
    headers = {"Content-Type": reply.content_type, "Server": SERVER_NAME, **dict(reply.headers)}
    if reply.max_age_s is not None:
        headers["Cache-Control"] = f"max-age={reply.max_age_s}"
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, body=reply.body, headers=headers)
    headers["Content-Length"] = str(reply.size)
    return web.StreamResponse(status=reply.status, headers=headers)


async def _send(request: web.BaseRequest, response: web.StreamResponse, reply: Reply) -> None:
    async with asyncio.timeout(_STALLED_S):
        await response.prepare(request)
    if request.method != "HEAD":
        match reply.body:
            case FileBody() as body:
                await _send_file(request, body)
            case StreamBody() as body:
                await _send_stream(request, response, body)
            case FetchedBody() as body:
                await _send_fetched(request, response, body)
    async with asyncio.timeout(_STALLED_S):
        await response.write_eof()


def _path(request: web.BaseRequest) -> str:
    """The path as it was sent; of a whole URL, as proxies send it, the path of that."""
    sent = request.raw_path
    if not sent.startswith("/"):
        sent = request.rel_url.raw_path
    return sent.partition("?")[0]


async def _send_file(request: web.BaseRequest, body: FileBody) -> None:
    loop = asyncio.get_running_loop()
    offset = 0
    while offset < body.size:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        step = min(_FILE_STEP, body.size - offset)
        async with asyncio.timeout(_STALLED_S):
            sent = await loop.sendfile(request.transport, body.file, offset, step)
        if sent <= 0:
            break
        offset += sent
    if offset != body.size:
        _log.warning("A file is shorter than it was a moment ago")
        _abort(request)


async def _send_stream(
    request: web.BaseRequest, response: web.StreamResponse, body: StreamBody
) -> None:
    sent = 0
    with contextlib.closing(body.open()) as pieces:
        while piece := await in_thread(next, pieces, b""):
            sent += len(piece)
            if sent > body.size:
                break
            async with asyncio.timeout(_STALLED_S):
                await response.write(piece)
    if sent != body.size:
        _log.warning("A nar is not of the size that the store says: the reply is broken off")
        _abort(request)


async def _send_fetched(
    request: web.BaseRequest, response: web.StreamResponse, body: FetchedBody
) -> None:
    sent = 0
    async with contextlib.aclosing(body.open()) as pieces:
        async for piece in pieces:
            sent += len(piece)
            async with asyncio.timeout(_STALLED_S):
                await response.write(piece)
    if sent != body.size:
        _abort(request)


def _abort(request: web.BaseRequest) -> None:
    """End the connection, so that what was sent is not taken for the whole."""
    if request.transport is not None:
        request.transport.abort()

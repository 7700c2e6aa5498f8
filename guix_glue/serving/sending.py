"""Sends the body of a reply, as fast as the client takes it, and no faster.

Of what a client does not take, one piece is kept: that is waited for until it is in the kernel,
which keeps a bounded part itself. Files go out by sendfile, nars in pieces that a worker thread
makes, one at a time. There is no deadline here: whoever takes too little is ended from outside
(`connections`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final

from aiohttp import web

from eris.threads import in_thread
from guix_glue.serving.reply import FetchedBody, FileBody, Reply, StreamBody
from kapla.http.serving.connection import Connection

__all__ = ["Sending", "WrongSize"]

_READ_STEP: Final = 64 * 1024


class WrongSize(OSError):
    """A body is not of the size that was promised."""


class Sending:
    """One reply on its way; `sent` are the bytes of its body that the kernel has taken."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, reply: Reply
    ) -> None:
        assert isinstance(request.protocol, Connection)
        self._connection = request.protocol
        self._request = request
        self._response = response
        self._reply = reply
        self.sent = 0

    async def run(self) -> None:
        """Send all of it.

        Raises: ConnectionError, when the client has gone; WrongSize; what the body raises.
        """
        body = self._reply.body
        await self._response.prepare(self._request)
        if self._request.method != "HEAD":
            match body:
                case FileBody():
                    await self._send_file(body)
                case StreamBody():
                    await self._send_stream(body)
                case FetchedBody():
                    await self._send_fetched(body)
        await self._response.write_eof()
        if isinstance(body, bytes) and self._request.method != "HEAD":
            self.sent = len(body)

    async def _send_file(self, body: FileBody) -> None:
        # The head has to be out before a file can follow it.
        await self._request.writer.drain()
        while self.sent < body.size:
            step = min(self._connection.file_step, body.size - self.sent)
            sent = await self._send_some(body, body.offset + self.sent, step)
            if sent <= 0:
                raise WrongSize("the file is shorter than it was a moment ago")
            self.sent += sent
            self._connection.handed += sent

    async def _send_some(self, body: FileBody, offset: int, size: int) -> int:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        loop = asyncio.get_running_loop()
        try:
            return await loop.sendfile(transport, body.file, offset, size, fallback=False)
        except asyncio.SendfileNotAvailableError:
            # Of this file system; or the client has gone, which the next write will tell.
            data = await in_thread(os.pread, body.file.fileno(), min(size, _READ_STEP), offset)
            await self._write(data)
            # Which the caller counts.
            self._connection.handed -= len(data)
            return len(data)

    async def _send_stream(self, body: StreamBody) -> None:
        with contextlib.closing(body.open()) as pieces:
            while piece := await in_thread(next, pieces, b""):
                if self.sent + len(piece) > body.size:
                    break
                await self._write(piece)
                self.sent += len(piece)
        if self.sent != body.size:
            raise WrongSize("a nar is not of the size that the store says")

    async def _send_fetched(self, body: FetchedBody) -> None:
        async with contextlib.aclosing(body.open(body.offset, body.size)) as pieces:
            async for piece in pieces:
                await self._write(piece)
                self.sent += len(piece)
        if self.sent != body.size:
            raise WrongSize("a nar is not of the size that was promised")

    async def _write(self, data: bytes) -> None:
        self._connection.handed += len(data)
        await self._response.write(data)
        await self._request.writer.drain()

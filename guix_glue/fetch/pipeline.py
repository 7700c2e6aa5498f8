"""Many GET requests to one host over one connection that is kept: the shell of `http_wire`.

Requests are in flight by the hundred and are asked again on a new connection when the server closes
before it has answered them all. What one connection answered is how much the next one is asked at
first, so that a server which closes after each answer is not sent the same again and again.
Connections that bring nothing are given up after a few: no server can keep us busy for ever.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from guix_glue.errors import FetchFailed
from guix_glue.fetch.http_wire import PipelinedConnection, Response
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.servers.url import Origin

__all__ = ["Pipeline"]

_WINDOW: Final = 256
"""Requests in flight: 100 ms at 2,500 narinfos a second. The stock client has up to 1,000."""

_READ: Final = 256 * 1024
# Connections in a row without one answer. The first may be one that the server closed while idle.
_FRUITLESS: Final = 3


Answered = Callable[[str, Response], None]
"""Is called with each path and its answer."""


class Pipeline:
    """The connection to one host; made when it is needed, and anew when it is lost."""

    def __init__(
        self,
        origin: Origin,
        authorization: str | None = None,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._origin = origin
        self._authorization = authorization
        self._timeouts = timeouts
        self._window = _WINDOW
        self._tls: ssl.SSLContext | None = None
        self._wire: PipelinedConnection | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, paths: Iterable[str], answered: Answered) -> None:
        """GET all paths, in any order of answers; a path whose answer is unusable has none.

        Raises: FetchFailed, when the server gives no more answers.
        """
        waiting = deque(paths)
        fruitless = 0
        while waiting:
            wire = await self._connected()
            try:
                count = await self._exchange(wire, waiting, answered)
            except BaseException:
                self.close()
                raise
            if not waiting and wire.open:
                return
            self.close()
            if wire.failure is None:
                self._window = max(1, min(self._window, count))
            fruitless = 0 if count else fruitless + 1
            if fruitless == _FRUITLESS:
                raise FetchFailed(str(wire.failure or "the server closes without an answer"))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = self._wire = None

    async def _exchange(
        self, wire: PipelinedConnection, waiting: deque[str], answered: Answered
    ) -> int:
        """Ask until all is answered or the connection ends; returns the number of answers.

        What was not answered is put back in front of the queue.
        """
        assert self._streams is not None
        reader, writer = self._streams
        count = under_way = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeouts.answer_s
        while wire.open and (waiting or under_way):
            if under_way <= self._window // 2:
                asked = [
                    waiting.popleft() for _ in range(min(len(waiting), self._window - under_way))
                ]
                under_way += len(asked)
                writer.write(b"".join(map(wire.request, asked)))
            answers = await self._receive(wire, reader, deadline)
            for path, response in answers:
                answered(path, response)
            if answers:
                count += len(answers)
                under_way -= len(answers)
                if count > self._window:
                    self._window = min(2 * self._window, _WINDOW)
                deadline = loop.time() + self._timeouts.answer_s
        waiting.extendleft(reversed(wire.unanswered))
        return count

    @staticmethod
    async def _receive(
        wire: PipelinedConnection, reader: asyncio.StreamReader, deadline: float
    ) -> list[tuple[str, Response]]:
        try:
            async with asyncio.timeout_at(deadline):
                data = await reader.read(_READ)
        except TimeoutError:
            raise FetchFailed("the server does not answer in time") from None
        except OSError:
            # Reset: as if it had been closed, but nothing is complete by that.
            wire.open = False
            return []
        return wire.receive(data) if data else wire.receive_end()

    async def _connected(self) -> PipelinedConnection:
        if self._wire is None or not self._wire.open:
            self.close()
            self._streams = await self._connect()
            self._wire = PipelinedConnection(self._origin.netloc, self._authorization)
        return self._wire

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._origin.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                return await asyncio.open_connection(
                    self._origin.host,
                    self._origin.port,
                    ssl=self._tls,
                )
        except TimeoutError:
            raise FetchFailed("no connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise FetchFailed(f"its certificate is not valid: {error.verify_message}") from None
        except (OSError, UnicodeError) as error:
            raise FetchFailed(f"connection failed: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)

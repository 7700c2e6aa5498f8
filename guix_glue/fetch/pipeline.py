"""Many GET requests to one host over one connection that is kept: the shell of `http_wire`.

Requests are in flight by the hundred and are asked again on a new connection when the server closes
before it has answered them all. What one connection answered is how much the next one is asked at
first, so that a server which closes after each answer is not sent the same again and again.
Connections that bring nothing are given up after a few: no server can keep us busy for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from guix_glue.errors import FetchFailed, GuixError, NoConnection, ProtocolError, TemporaryFailure
from guix_glue.fetch.connecting import Route, Streams
from guix_glue.fetch.http_wire import PipelinedConnection, Response
from guix_glue.fetch.settings import DEFAULT_TIMEOUTS, Timeouts
from guix_glue.servers.patience import Patience
from guix_glue.servers.proxies import Proxy
from guix_glue.servers.url import Origin

__all__ = ["Pipeline"]

_WINDOW: Final = 256
"""Requests in flight: 100 ms at 2,500 narinfos a second. The stock client has up to 1,000."""

_READ: Final = 256 * 1024
# How often it is tried again in a row without one answer.
_TRIES: Final = 2


Answered = Callable[[str, Response], None]
"""Is called with each path and its answer."""


class Pipeline:
    """The connection to one host; made when it is needed, and anew when it is lost.

    A proxy that is asked for whole URLs gets one request at a time: many do not know pipelining.
    """

    def __init__(
        self,
        origin: Origin,
        authorization: str | None = None,
        *,
        proxy: Proxy | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self.origin = origin
        self._authorization = authorization
        self._timeouts = timeouts
        self._route = Route(origin, proxy)
        self._widest = 1 if self._route.asks_proxy else _WINDOW
        self._window = self._widest
        self._wire: PipelinedConnection | None = None
        self._streams: Streams | None = None

    @property
    def asked_proxy(self) -> Proxy | None:
        """The proxy that answers, if it is not the host itself."""
        return self._route.proxy if self._route.asks_proxy else None

    async def ask(self, paths: Iterable[str], answered: Answered) -> None:
        """GET all paths, in any order of answers; a path whose answer is unusable has none.

        Raises: FetchFailed, when the server gives no more answers.
        """
        waiting = deque(paths)
        patience = Patience(tries=_TRIES)
        # A connection that was kept may have been closed meanwhile: that is no failure.
        was_there = kept = self._wire is not None
        while waiting:
            failure: GuixError | None
            try:
                count, failure = await self._converse(waiting, answered)
            except TemporaryFailure as error:
                # It may be starting anew, if it was there just now.
                if isinstance(error, NoConnection) and not was_there:
                    raise
                count, failure = 0, error
            if count:
                patience = Patience(tries=_TRIES)
            elif waiting and not kept:
                await _pause(patience, failure)
            was_there, kept = True, False

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = self._wire = None

    async def _converse(
        self, waiting: deque[str], answered: Answered
    ) -> tuple[int, ProtocolError | None]:
        """Ask by one connection, until all is answered or it is used up, for the reason returned.

        Returns the number of answers, too.
        """
        wire = await self._connected()
        try:
            count = await self._exchange(wire, waiting, answered)
        except BaseException:
            self.close()
            raise
        if waiting or not wire.open:
            self.close()
            if wire.failure is None:
                self._window = max(1, min(self._window, count))
        return count, wire.failure

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
                    self._window = min(2 * self._window, self._widest)
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
            self._streams = await self._route.open(self._timeouts.connect_s)
            self._wire = self._new_wire()
        return self._wire

    def _new_wire(self) -> PipelinedConnection:
        more = {}
        if self._authorization is not None:
            more["Authorization"] = self._authorization
        proxy = self.asked_proxy
        if proxy is not None and proxy.authorization is not None:
            more["Proxy-Authorization"] = proxy.authorization
        prefix = "" if proxy is None else f"http://{self.origin.netloc}"
        return PipelinedConnection(self.origin.netloc, more, prefix=prefix)


async def _pause(patience: Patience, failure: GuixError | None) -> None:
    """Wait before the next connection. What is no HTTP is not waited for: it is not in trouble."""
    pause_s = patience.pause_s()
    if pause_s is None:
        raise FetchFailed(str(failure or "the server closes without an answer"))
    if not isinstance(failure, ProtocolError):
        await asyncio.sleep(pause_s)

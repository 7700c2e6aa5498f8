"""The figures of a page as they change: server-sent events, to few at a time.

While nobody follows nothing is done. Each stream makes its own rates, out of what it was told last,
and waits until that was taken: who does not read is told nothing more.
Source: the HTML standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from eris.errors import StoreUnavailable
from kapla.status.page import event_of
from kapla.status.subject import Subject, Told

__all__ = ["EVENT_S", "MOST_STREAMS", "Streams"]

MOST_STREAMS: Final = 8
"""At a time: pages that somebody looks at. Those that are behind others follow nothing."""

EVENT_S: Final = 2.0
"""Between events. Rates over less jump about."""

_FIRST_S: Final = 1.0


class Streams:
    """All streams of a server, until it stops."""

    def __init__(self) -> None:
        self._open = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all of them, and begin no more."""
        self._stopping.set()

    async def follow(
        self,
        request: web.BaseRequest,
        subject: Subject,
        told: Told,
        wait: Callable[[], Awaitable[object]],
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Send events until the server stops, or nobody takes them any more.

        Raises: StoreUnavailable, if there are too many; ConnectionError.
        """
        if self._open >= MOST_STREAMS or self._stopping.is_set():
            raise StoreUnavailable(f"{MOST_STREAMS} pages follow it already")
        self._open += 1
        try:
            facts = await subject.facts(told)
            response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"})
            await response.prepare(request)
            # The head first: the page sees that it is answered.
            await response.write(b"retry: 2000\n\n")
            await self._send_on(request, response, subject, told, wait, facts)
            return response
        finally:
            self._open -= 1

    async def _send_on(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        subject: Subject,
        told: Told,
        wait: Callable[[], Awaitable[object]],
        before: Mapping[str, Any],
    ) -> None:
        pause_s = _FIRST_S
        while not await self._stops_within(pause_s):
            pause_s = EVENT_S
            await wait()
            try:
                facts = await subject.facts(told)
            except StoreUnavailable:
                # The page says that its figures are not live when it hears nothing for long.
                await response.write(b": it does not answer\n\n")
                continue
            await response.write(event_of(subject.view(facts, before)))
            # Until the kernel has all of it, which takes only what the client takes.
            await request.writer.drain()
            before = facts

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

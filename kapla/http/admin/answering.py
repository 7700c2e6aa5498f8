"""Answers questions about the daemon: what it holds and did, and who its peers are.

The pages are a table. Another one is a row, and is told to the same askers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from eris.errors import ErisError
from kapla.http.admin.asking import is_of_this_machine, was_asked_by_a_page
from kapla.http.turns.connection import PacedConnection
from kapla.storage.access import Statistics

__all__ = ["Answering", "Page", "facts_page"]

_log = logging.getLogger(__name__)

_TEXT: Final = "text/plain; charset=utf-8"
_METHODS: Final = "GET, HEAD"
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What is told at a path. `make` raises ErisError when it cannot tell."""

    content_type: str
    make: Callable[[], Awaitable[bytes]]


def facts_page(facts: Callable[[], Awaitable[object]]) -> Page:
    """Facts as JSON, of which each time there are new ones."""

    async def make() -> bytes:
        return json.dumps(await facts(), ensure_ascii=False).encode() + b"\n"

    return Page("application/json", make)


class Answering:
    """Answers what comes by one listener; `names`: see `is_of_this_machine`."""

    def __init__(
        self, pages: Mapping[str, Page], names: frozenset[str] | None, statistics: Statistics
    ) -> None:
        self._pages = pages
        self._names = names
        self._statistics = statistics

    async def __call__(
        self, request: web.BaseRequest, connection: PacedConnection
    ) -> web.StreamResponse:
        """The answer to a request, whatever it is."""
        self._statistics.other += 1
        await connection.pace.room(0)
        hosts = request.headers.getall(hdrs.HOST, [])
        if not is_of_this_machine(list(hosts), self._names):
            return _text(403, "Ask for this machine by localhost or its address, and the port")
        site, origin = (request.headers.get(name) for name in ("Sec-Fetch-Site", hdrs.ORIGIN))
        if was_asked_by_a_page(site, origin, hosts[0] if hosts else ""):
            return _text(403, "This is not told to pages of other origins")
        path = request.raw_path.partition("?")[0]
        page = self._pages.get(path)
        if page is None:
            return _text(404, "There is nothing here but " + ", ".join(self._pages))
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _text(405, "This cannot be done here", {"Allow": _METHODS})
        return await self._told(page)

    async def _told(self, page: Page) -> web.Response:
        try:
            body = await page.make()
        except ErisError as error:
            _log.debug("This cannot be told: %s", error)
            return _text(503, f"This cannot be told at the moment: {error}")
        return web.Response(body=body, headers={**_ALWAYS, "Content-Type": page.content_type})


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    headers = {**_ALWAYS, "Content-Type": _TEXT, **(headers or {})}
    return web.Response(status=status, body=f"{text}\n".encode(), headers=headers)

"""From a request to a reply of a proxy. No socket: the shell around it sends what comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, assert_never

from guix_glue.errors import FetchFailed
from guix_glue.proxy.routes import (
    CacheInfoPage,
    ElsewhereNar,
    Landing,
    NarinfoOf,
    NarOf,
    Route,
    parse_path,
)
from guix_glue.proxy.source import ProxySource
from guix_glue.serving.answering import Frame, text_reply
from guix_glue.serving.reply import Reply, Request

__all__ = ["Site"]

_log = logging.getLogger(__name__)

_ABSENCE_AGE_S: Final = 60
"""How long clients may keep it in mind that something is not there; some keep it for an hour."""


class Site:
    """Answers requests out of a source."""

    def __init__(self, source: ProxySource) -> None:
        self._source = source
        self._frame = Frame(_log)

    async def answer(self, request: Request) -> Reply:
        """The reply to a request, whatever it is. Never raises but for a cancellation."""
        refused = self._frame.refused(request)
        if refused is not None:
            return refused
        route = parse_path(request.path)
        reply = None if route is None else await self._frame.answered(self._answer(request, route))
        if reply is not None:
            return reply
        age_s = _ABSENCE_AGE_S if isinstance(route, NarinfoOf) else None
        return text_reply(404, f"Resource not found: {request.path}", age_s)

    def expect(self, paths: Sequence[str]) -> None:
        """Requests for these paths have come in, and will be answered one by one."""
        routes = map(parse_path, paths)
        self._source.expect([route.hash_part for route in routes if isinstance(route, NarinfoOf)])

    async def _answer(self, request: Request, route: Route) -> Reply | None:
        try:
            return await self._told(request, route)
        except FetchFailed as error:
            # Why is in the log already, once for each server and not for each request.
            _log.debug("Nothing is known: %s", error)
            return text_reply(503, "The server cannot tell at the moment")

    async def _told(self, request: Request, route: Route) -> Reply | None:
        match route:
            case NarinfoOf(hash_part):
                return await self._source.narinfo(hash_part)
            case NarOf(hash_part, nar_hash):
                only_head = request.method == "HEAD"
                return await self._source.nar(hash_part, nar_hash, only_head=only_head)
            case ElsewhereNar(hash_part, path):
                return await self._source.elsewhere(hash_part, path)
            case CacheInfoPage():
                return await self._source.cache_info()
            case Landing():
                return await self._source.landing()
        assert_never(route)

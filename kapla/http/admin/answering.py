"""Answers questions about a server: as a page, as JSON, as metrics.

The paths are a table. Another one is a row, and is told to the same askers.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from eris.errors import ErisError
from kapla.coap.sockets import peer_uid
from kapla.http.admin.asking import (
    WrongToken,
    is_of_this_machine,
    told_to,
    was_asked_by_a_page,
)
from kapla.http.admin.streaming import Streams
from kapla.status.metrics import CONTENT_TYPE as METRICS
from kapla.status.page import page_html, page_policy
from kapla.status.subject import Subject, Told

__all__ = ["Answering", "Waiting"]

_log = logging.getLogger(__name__)

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_HTML: Final = "text/html; charset=utf-8"
_EVENTS: Final = "/events"
_METHODS: Final = "GET, HEAD"
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Waiting = Callable[[], Awaitable[object]]
"""Is awaited before each piece of work: whoever answers others too has them take turns."""


class Answering:
    """Answers what comes by one listener; `names`: see `is_of_this_machine`.

    `token` is what those show who are told everything. `streams` are shared by all listeners.
    """

    def __init__(
        self, subject: Subject, names: frozenset[str] | None, token: str, streams: Streams
    ) -> None:
        self._subject = subject
        self._names = names
        self._token = token
        self._streams = streams
        self._paths: Mapping[str, Callable[[Told], Awaitable[web.Response]]] = {
            "/": self._page,
            "/status": self._facts,
            "/peers": self._peers,
            "/metrics": self._metrics,
            "/healthz": self._health,
        }

    async def __call__(self, request: web.BaseRequest, wait: Waiting) -> web.StreamResponse:
        """The answer to a request, whatever it is. Raises: ConnectionError, of a stream."""
        await wait()
        hosts = request.headers.getall(hdrs.HOST, [])
        if not is_of_this_machine(list(hosts), self._names):
            return _text(403, "Ask for this machine by localhost or its address, and the port")
        site, origin = (request.headers.get(name) for name in ("Sec-Fetch-Site", hdrs.ORIGIN))
        path = request.raw_path.partition("?")[0]
        if was_asked_by_a_page(site, origin, hosts[0] if hosts else ""):
            return _text(403, "This is not told to pages of other origins")
        if path not in self._paths and path != _EVENTS:
            return _text(404, "There is nothing here but " + ", ".join((*self._paths, _EVENTS)))
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _text(405, "This cannot be done here", {"Allow": _METHODS})
        try:
            told = self._told_to(request)
        except WrongToken:
            shown = {"WWW-Authenticate": "Bearer"}
            return _text(401, "This token is not that of this run", shown)
        return await self._answer(request, path, told, wait)

    def _told_to(self, request: web.BaseRequest) -> Told:
        transport = request.transport
        uid = None if transport is None else peer_uid(transport)
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        return told_to(uid, os.geteuid(), authorization, self._token)

    async def _answer(
        self, request: web.BaseRequest, path: str, told: Told, wait: Waiting
    ) -> web.StreamResponse:
        try:
            if path != _EVENTS:
                return await self._paths[path](told)
            if request.method == hdrs.METH_HEAD:
                return _reply(b"", "text/event-stream")
            return await self._streams.follow(request, self._subject, told, wait, _ALWAYS)
        except ErisError as error:
            _log.debug("This cannot be told: %s", error)
            return _text(503, f"This cannot be told at the moment: {error}")

    async def _page(self, told: Told) -> web.Response:
        facts = await self._subject.facts(told)
        body = page_html(self._subject.view(facts, None))
        return _reply(body, _HTML, {"Content-Security-Policy": page_policy()})

    async def _facts(self, told: Told) -> web.Response:
        return _as_json(await self._subject.facts(told))

    async def _peers(self, told: Told) -> web.Response:
        facts = await self._subject.facts(told)
        return _as_json(facts.get("peers", []))

    async def _metrics(self, told: Told) -> web.Response:
        return _reply(await self._subject.metrics(), METRICS)

    async def _health(self, told: Told) -> web.Response:
        trouble = await self._subject.trouble()
        return _text(200, "ok") if trouble is None else _text(503, trouble)


def _as_json(facts: Any) -> web.Response:
    # A name of a file may be no UTF-8: of such bytes the escapes are those of JSON.
    body = json.dumps(facts, ensure_ascii=False).encode(errors="backslashreplace")
    return _reply(body + b"\n", _JSON)


def _reply(
    body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=body, headers={**_ALWAYS, "Content-Type": content_type, **(headers or {})}
    )


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    reply = _reply(f"{text}\n".encode(errors="backslashreplace"), _TEXT, headers)
    reply.set_status(status)
    return reply

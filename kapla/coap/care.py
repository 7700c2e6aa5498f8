"""Seeing to the whole store over the wire: `scrub` and `database`, beside `blocks`.

For whoever may administer it. See docs/wire.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from eris.errors import ErisError
from kapla.coap.blocks import BLOCKS_PATHS, BadRequest, code_of_error, diagnostic
from kapla.coap.fragments import Fragmenting, accepts, respond
from kapla.coap.frame import Code
from kapla.coap.maps import MAP_FORMAT, format_map, read_map
from kapla.storage.access import BlockAccess

__all__ = ["care_resources"]

_FASTEST: Final = 2**40
_IN_A_DATABASE: Final = (
    b"the store is in a database: back it up with its server's means, as pg_dump does"
)


def care_resources(access: BlockAccess) -> dict[tuple[str, ...], Fragmenting]:
    """The resources, by their paths."""
    scrub, database = _Scrub(access), _Database(access)
    found: dict[tuple[str, ...], Fragmenting] = {}
    for path in BLOCKS_PATHS:
        found[(*path[:-1], "scrub")] = scrub
        found[(*path[:-1], "database")] = database
    return found


class _CareResource(Fragmenting):
    """What both have in common: the right, and errors as codes."""

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._storage = access.storage

    def get_link_description(self) -> None:
        """Not shown in discovery: whether they may be used depends on who asks."""

    async def render(self, request: Any) -> Any:
        """Answer a request, if this peer may administer the store."""
        if not request.remote.caller.may_administer:
            return respond(Code.FORBIDDEN, b"only whoever administers this store may do that")
        if not accepts(request, MAP_FORMAT):
            return respond(Code.NOT_ACCEPTABLE)
        try:
            return await super().render(request)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            return respond(code_of_error(error), diagnostic(error))


class _Scrub(_CareResource):
    """Having all blocks looked at now."""

    async def render_post(self, request: Any) -> Any:
        """Begin, unless it is under way."""
        asked = read_map(request.payload, {"rate": int})
        rate = asked.get("rate", 0)
        if rate > _FASTEST:
            raise BadRequest("rate is too large")
        await self._storage.scrubbing.ask(rate)
        return self._status(Code.CHANGED)

    async def render_get(self, request: Any) -> Any:
        """Tell how far it is."""
        return self._status(Code.CONTENT)

    async def render_delete(self, request: Any) -> Any:
        """End it."""
        self._storage.scrubbing.end()
        return respond(Code.DELETED)

    def _status(self, code: int) -> Any:
        status = self._storage.scrubbing.status
        return _answer(
            code,
            {
                "run": status.run,
                "running": status.is_running,
                "whole": not (status.is_running or status.is_failed),
                "blocks": status.blocks,
                "bytes": status.bytes,
                "of": status.of,
                "bad": status.bad,
            },
        )


class _Database(_CareResource):
    """Where the database is, for whoever may read the file."""

    async def render_get(self, request: Any) -> Any:
        """Tell its path."""
        path = self._storage.path
        if path is None:
            return respond(Code.CONFLICT, _IN_A_DATABASE)
        return _answer(Code.CONTENT, {"path": os.fsencode(path.absolute())})


def _answer(code: int, values: Mapping[str, Any]) -> Any:
    message = respond(code, format_map(values))
    message.opt.content_format = MAP_FORMAT
    return message

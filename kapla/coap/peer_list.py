"""What is told of peers: `/kapla/peers`, a JSON list in pages. See docs/wire.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiocoap.numbers import ContentFormat

from kapla.coap.blocks import BadRequest
from kapla.coap.fragments import Fragmenting, accepts, respond
from kapla.coap.frame import Code
from kapla.storage.access import BlockAccess

__all__ = ["PeerList", "PeerReport"]

PeerReport = Callable[[], Sequence[dict[str, object]]]
"""Gives the facts of all peers."""

# So that a page fits into a message of any peer that takes a block, however long names are.
_PAGE: Final = 20
_AFTER: Final = re.compile(r"after=([0-9]{1,6})")


class PeerList(Fragmenting):
    """Who the peers are, and how it stands with each."""

    def __init__(self, access: BlockAccess, report: PeerReport) -> None:
        super().__init__()
        self._access = access
        self._report = report

    def get_link_description(self) -> dict[str, str] | None:
        """Shown in discovery only to those who may ask."""
        return {"ct": "50"} if self._access.rights.stat else None

    async def render_get(self, request: Any) -> Any:
        """Give a page."""
        if not self._access.rights.stat:
            return respond(Code.FORBIDDEN, b"not told to peers of this listener")
        if not accepts(request, ContentFormat.JSON):
            return respond(Code.NOT_ACCEPTABLE)
        try:
            after = _after(request.opt.uri_query)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        page = self._report()[after : after + _PAGE]
        message = respond(Code.CONTENT, json.dumps(page, ensure_ascii=False).encode())
        message.opt.content_format = ContentFormat.JSON
        return message


def _after(queries: Sequence[str]) -> int:
    """How many are left out, as those before had them."""
    if not queries:
        return 0
    match = _AFTER.fullmatch(queries[0])
    if match is None or len(queries) > 1:
        raise BadRequest("one query is understood: after= and a number")
    return int(match[1])

"""Resources that tell facts in JSON."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

from aiocoap.numbers import ContentFormat

from kapla.coap.blocks import BadRequest
from kapla.coap.fragments import Fragmenting, accepts, respond
from kapla.coap.frame import Code
from kapla.storage.access import BlockAccess

__all__ = ["Facts"]


class Facts(Fragmenting):
    """Tells what `facts` gives, to those who have the right `stat`."""

    needs_stat = True
    """Whether it does: and whether discovery shows it, to those."""

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._access = access

    @abstractmethod
    async def facts(self, request: Any) -> object:
        """What is to be told. Raises: BadRequest."""

    def get_link_description(self) -> dict[str, str] | None:
        """Shown in discovery only to those who may ask."""
        return {"ct": "50"} if self.needs_stat and self._access.rights.stat else None

    async def render_get(self, request: Any) -> Any:
        """Give them."""
        if self.needs_stat and not self._access.rights.stat:
            return respond(Code.FORBIDDEN, b"not told to peers of this listener")
        if not accepts(request, ContentFormat.JSON):
            return respond(Code.NOT_ACCEPTABLE)
        try:
            facts = await self.facts(request)
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        # A name of a file may be no UTF-8: of such bytes the escapes are those of JSON.
        text = json.dumps(facts, ensure_ascii=False).encode(errors="backslashreplace")
        message = respond(Code.CONTENT, text)
        message.opt.content_format = ContentFormat.JSON
        return message

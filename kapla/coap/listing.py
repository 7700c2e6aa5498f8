"""The resource `list`: the references of all blocks, for those who see to the whole store."""

from __future__ import annotations

from typing import Any

from aiocoap.numbers import ContentFormat

from eris.errors import ErisError
from kapla.coap.blocks import BadRequest, code_of_error, diagnostic
from kapla.coap.fragments import Fragmenting, accepts, respond
from kapla.coap.frame import Code
from kapla.coap.list_pages import format_page, parse_after
from kapla.storage.access import BlockAccess
from kapla.storage.port import Listing

__all__ = ["BlockList"]


class BlockList(Fragmenting):
    """GET of one page."""

    def __init__(self, access: BlockAccess) -> None:
        super().__init__()
        self._access = access
        self._listing: Listing | None = None

    def get_link_description(self) -> dict[str, str] | None:
        """Shown in discovery only where anybody may ask."""
        return {"ct": "42"} if self._access.rights.admin else None

    async def render_get(self, request: Any) -> Any:
        """Give a page: see `kapla.coap.list_pages`."""
        if not request.remote.caller.may_administer:
            self._access.statistics.refused += 1
            return respond(Code.FORBIDDEN, b"the list of all blocks is for administrators")
        if not accepts(request, ContentFormat.OCTETSTREAM):
            return respond(Code.NOT_ACCEPTABLE)
        try:
            page = await self._pages().page(parse_after(request.opt.uri_query))
        except BadRequest as error:
            return respond(Code.BAD_REQUEST, str(error).encode())
        except ErisError as error:
            return respond(code_of_error(error), diagnostic(error))
        if page.following is None:
            return respond(Code.CONTENT)
        return respond(Code.CONTENT, format_page(page.references, page.following))

    def _pages(self) -> Listing:
        """One for all who ask: it reads one page at a time."""
        if self._listing is None:
            self._listing = self._access.storage.listing()
        return self._listing

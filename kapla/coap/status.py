"""How the daemon is doing, and where its page is: `/kapla/status` and `/kapla/page`.

See docs/wire.md.
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from aiocoap.numbers import ContentFormat

from kapla.coap.blocks import STATUS_PAGE_PATH, STATUS_PATH
from kapla.coap.facts import Facts
from kapla.coap.fragments import Fragmenting, respond
from kapla.coap.frame import Code
from kapla.storage.access import BlockAccess

__all__ = ["StatusReport", "status_resources"]

_JSON: Final = ContentFormat.JSON


class StatusReport(Protocol):
    """What there is to tell."""

    async def status(self, *, everything: bool) -> dict[str, object]:
        """Numbers, or names too. Raises: StoreUnavailable."""
        ...

    def page_url(self) -> str | None:
        """Where all of it is shown, with what opens that. None: nowhere."""
        ...


def status_resources(
    access: BlockAccess, report: StatusReport
) -> dict[tuple[str, ...], Fragmenting]:
    """The resources, by their paths."""
    return {STATUS_PATH: _Status(access, report), STATUS_PAGE_PATH: _Page(report)}


class _Status(Facts):
    """All facts but those of peers, which have a list of their own."""

    def __init__(self, access: BlockAccess, report: StatusReport) -> None:
        super().__init__(access)
        self._report = report

    async def facts(self, request: Any) -> object:
        """Names are for those who may see to the whole store."""
        everything = request.remote.caller.may_administer
        facts = await self._report.status(everything=everything)
        return {name: value for name, value in facts.items() if name != "peers"}


class _Page(Fragmenting):
    """Where the page is, for administrators whom the kernel knows: the URL opens it to anybody."""

    def __init__(self, report: StatusReport) -> None:
        super().__init__()
        self._report = report

    def get_link_description(self) -> None:
        """Not shown in discovery: whether it may be asked for depends on who asks."""

    async def render_get(self, request: Any) -> Any:
        """Tell it."""
        caller = request.remote.caller
        if not (caller.may_administer and caller.is_known):
            return respond(Code.FORBIDDEN, b"only whoever administers this store may know that")
        url = self._report.page_url()
        if url is None:
            return respond(Code.NOT_FOUND, b"there is no page on the loopback interface")
        message = respond(Code.CONTENT, json.dumps({"url": url}).encode())
        message.opt.content_format = _JSON
        return message

"""What is told of peers, and of who is found near: `/kapla/peers` and `/kapla/found`.

JSON lists in pages. See docs/wire.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from kapla.coap.blocks import BadRequest
from kapla.coap.facts import Facts
from kapla.storage.access import BlockAccess

__all__ = ["PeerList", "PeerReport"]

PeerReport = Callable[[], Sequence[dict[str, object]]]
"""Gives the facts of all of them."""

# So that a page fits into a message of any peer that takes a block, however long names are.
_PAGE: Final = 20
_AFTER: Final = re.compile(r"after=([0-9]{1,6})")


class PeerList(Facts):
    """Who the peers are, and how it stands with each; or who was found, and where we are."""

    def __init__(self, access: BlockAccess, report: PeerReport) -> None:
        super().__init__(access)
        self._report = report

    async def facts(self, request: Any) -> object:
        """A page of them. Raises: BadRequest."""
        after = _after(request.opt.uri_query)
        return self._report()[after : after + _PAGE]


def _after(queries: Sequence[str]) -> int:
    """How many are left out, as those before had them."""
    if not queries:
        return 0
    match = _AFTER.fullmatch(queries[0])
    if match is None or len(queries) > 1:
        raise BadRequest("one query is understood: after= and a number")
    return int(match[1])

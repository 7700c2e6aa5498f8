"""What a Kapla daemon tells of its store when it is asked: reading its answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.coap.list_pages import list_options, parse_page

__all__ = ["list_pages", "read_report"]


def read_report(payload: bytes) -> dict[str, Any]:
    """The answer of `/kapla/stat`.

    Raises: StoreUnavailable.
    """
    try:
        report = json.loads(payload)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        raise StoreUnavailable("the daemon's report makes no sense")
    return report


async def list_pages(
    ask: Callable[[bytes], Awaitable[bytes]], store_path: tuple[str, ...]
) -> AsyncGenerator[list[Reference], None]:
    """The references of all blocks, page by page; `ask` sends options and returns a payload.

    Raises: StoreUnavailable; whatever `ask` raises.
    """
    after = b""
    while True:
        payload = await ask(list_options(store_path, after))
        try:
            references, following = parse_page(payload)
        except ValueError as error:
            raise StoreUnavailable(f"the store's list makes no sense: {error}") from None
        if not following:
            return
        if following <= after:
            raise StoreUnavailable("the store's list makes no sense: it goes round in circles")
        after = following
        yield references

"""The client's side of `kapla peers`: what a daemon tells of its peers. See docs/wire.md."""

from __future__ import annotations

import json
from typing import Any, Final

from eris.errors import StoreRefused, StoreUnavailable
from kapla.coap.blocks import PEERS_PATH, error_of_code
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.remote_store import RemoteStore

__all__ = ["list_peers"]

# More than any daemon takes.
_MOST: Final = 10_000


async def list_peers(store: RemoteStore) -> list[dict[str, Any]]:
    """All peers of a Kapla daemon.

    Raises: NotAllowed; StoreRefused, if it is none; StoreUnavailable.
    """
    found: list[dict[str, Any]] = []
    while page := await _page(store, len(found)):
        found += page
        if len(found) > _MOST:
            raise StoreUnavailable("the daemon's list of peers has no end")
    return found


async def _page(store: RemoteStore, after: int) -> list[dict[str, Any]]:
    options = [(OptionNumber.URI_PATH, part.encode()) for part in PEERS_PATH]
    if after:
        options.append((OptionNumber.URI_QUERY, f"after={after}".encode()))
    code, payload = await store.ask(Code.GET, encode_options(options))
    if code == Code.NOT_FOUND:
        raise StoreRefused("the store has no peers, or does not tell of them: it is no such kaplad")
    if code != Code.CONTENT:
        raise error_of_code(code, b"", payload, is_get=False)
    try:
        page = json.loads(payload)
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
        raise StoreUnavailable("the daemon's list of peers makes no sense")
    return page

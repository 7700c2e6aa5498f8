"""The client's side of `kapla peers`: what a daemon tells of its peers, and of who is found near.

See docs/wire.md.
"""

from __future__ import annotations

import json
from typing import Any, Final

from eris.errors import StoreRefused, StoreUnavailable
from kapla.coap.blocks import FOUND_PATH, PEERS_PATH, error_of_code
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.remote_store import RemoteStore

__all__ = ["list_found", "list_peers"]

# More than any daemon takes.
_MOST: Final = 10_000


async def list_peers(store: RemoteStore) -> list[dict[str, Any]]:
    """All peers of a Kapla daemon.

    Raises: NotAllowed; StoreRefused, if it is none; StoreUnavailable.
    """
    return await _list(
        store,
        PEERS_PATH,
        "the store has no peers, or does not tell of them: it is no such kaplad",
    )


async def list_found(store: RemoteStore) -> list[dict[str, Any]]:
    """The networks that a Kapla daemon is in, and what it has found there.

    Raises: NotAllowed; StoreRefused, if it does not look around; StoreUnavailable.
    """
    return await _list(
        store,
        FOUND_PATH,
        "the daemon does not look for others: it is no such kaplad, or its settings are without"
        ' discover = "lan"',
    )


async def _list(store: RemoteStore, path: tuple[str, ...], nowhere: str) -> list[dict[str, Any]]:
    """All pages; `nowhere` is what it means that there is no such list."""
    found: list[dict[str, Any]] = []
    while page := await _page(store, path, nowhere, len(found)):
        found += page
        if len(found) > _MOST:
            raise StoreUnavailable("the daemon's list of peers has no end")
    return found


async def _page(
    store: RemoteStore, path: tuple[str, ...], nowhere: str, after: int
) -> list[dict[str, Any]]:
    options = [(OptionNumber.URI_PATH, part.encode()) for part in path]
    if after:
        options.append((OptionNumber.URI_QUERY, f"after={after}".encode()))
    code, payload = await store.ask(Code.GET, encode_options(options))
    if code == Code.NOT_FOUND:
        raise StoreRefused(nowhere)
    if code != Code.CONTENT:
        raise error_of_code(code, b"", payload, is_get=False)
    try:
        page = json.loads(payload)
    except (ValueError, RecursionError):
        page = None
    if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
        raise StoreUnavailable("the daemon's list of peers makes no sense")
    return page

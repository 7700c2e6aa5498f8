"""The client's side of `kapla top`: how a daemon is doing, and where its page is.

See docs/wire.md.
"""

from __future__ import annotations

import json
from typing import Any

from eris.errors import StoreRefused, StoreUnavailable
from kapla.coap.blocks import STATUS_PAGE_PATH, STATUS_PATH, error_of_code
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.peer_listing import list_peers
from kapla.remote_store import RemoteStore

__all__ = ["ask_status", "status_url"]


async def ask_status(store: RemoteStore) -> dict[str, Any]:
    """All facts of a Kapla daemon, those of its peers included.

    Raises: NotAllowed; StoreRefused, if it is none, or an older one; StoreUnavailable.
    """
    facts = await _ask(store, STATUS_PATH, "the store does not tell how it is doing")
    return {**facts, "peers": await list_peers(store)}


async def status_url(store: RemoteStore) -> str:
    """The URL of the daemon's page, which shows all to whoever has it, until the daemon ends.

    Only told on a Unix socket, to root and the user who runs the daemon.
    Raises: NotAllowed; StoreRefused, if there is no page; StoreUnavailable.
    """
    nowhere = 'the daemon has no page: admin = "127.0.0.1:9080" in its settings makes one'
    url = (await _ask(store, STATUS_PAGE_PATH, nowhere)).get("url")
    if not isinstance(url, str) or not url.startswith("http://"):
        raise StoreUnavailable("the daemon's answer makes no sense")
    return url


async def _ask(store: RemoteStore, path: tuple[str, ...], nowhere: str) -> dict[str, Any]:
    body = encode_options((OptionNumber.URI_PATH, part.encode()) for part in path)
    code, payload = await store.ask(Code.GET, body)
    if code == Code.NOT_FOUND:
        raise StoreRefused(nowhere)
    if code != Code.CONTENT:
        raise error_of_code(code, b"", payload, is_get=False)
    try:
        facts = json.loads(payload)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise StoreUnavailable("what the daemon tells of itself makes no sense")
    return facts

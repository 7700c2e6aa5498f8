"""The stores of blocks that fetchers and proxies ask: those they are given, else the local daemon.

What makes no sense must not end a query of the Guix daemon: it is left out, with a warning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kapla.cli.common import Store
from kapla.client import default_store_urls, open_store
from kapla.errors import InvalidUrl
from kapla.urls import NO_STORE, StoreUrl

__all__ = ["open_stores", "stores_given"]

# An address that swallows what is sent to it is found out sooner than a store that is slow.
_CONNECT_S: Final = 10.0


def stores_given(urls: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Store URLs of the options, else of the environment; empty if neither has any.

    None, if they say that there is no store: then there is nothing but HTTP, local daemon or not.
    """
    given = " ".join(urls).split() or environ.get("ERIS_STORE_URL", "").split()
    return None if given == [NO_STORE] else given


def open_stores(
    urls: Sequence[str],
    warn: Callable[[str], None],
    patience_s: float,
    *,
    may_come_later: bool = False,
) -> Store | None:
    """The store to ask for blocks; None where there is none, or none that makes sense.

    Of several each may be silent for its share of the time, so that the last one is still asked.
    The local daemon counts if it is there, or, for whoever stays, if it `may_come_later`.
    """
    given = stores_given(urls, os.environ)
    if given is None:
        return None
    found = _parse(given, warn) if given else _local(may_come_later=may_come_later)
    if not found:
        return None
    share_s = patience_s / len(found)
    connect_s = min(share_s, _CONNECT_S)
    return open_store(found, timeout_s=share_s, connect_timeout_s=connect_s)


def _parse(given: Sequence[str], warn: Callable[[str], None]) -> list[StoreUrl]:
    found: list[StoreUrl] = []
    for number, text in enumerate(given, 1):
        try:
            found += default_store_urls(text)
        except InvalidUrl as error:
            warn(f"store {number} is left out: {error}")
    return found


def _local(*, may_come_later: bool = False) -> list[StoreUrl]:
    """Where a local daemon has its socket, if it is there, or may be some time."""
    return [url for url in default_store_urls() if may_come_later or _is_there(url.endpoint)]


def _is_there(endpoint: object) -> bool:
    path = getattr(endpoint, "path", None)
    return path is not None and os.path.exists(path)

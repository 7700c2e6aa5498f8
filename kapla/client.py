"""The store port over the wire: what `kapla` and other programs use to reach a daemon.

One store is a `RemoteStore`, over HTTP an `HttpStore`, and in a file a `FileStore`, without a wire;
a group of those with the same content is a `GroupStore`; several others are a `StoreList`.
`open_store` makes whichever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kapla.default_stores import default_store_urls, stores_from_environment
from kapla.given_urls import GivenUrl, read_store_urls
from kapla.remote_store import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S,
    DEFAULT_WINDOW,
    RemoteStore,
)
from kapla.store_list import StoreList
from kapla.urls import FileEndpoint, HttpEndpoint, StoreUrl

if TYPE_CHECKING:
    from kapla.http.asking.store import HttpStore

__all__ = [
    "RemoteStore",
    "StoreList",
    "default_store_urls",
    "open_store",
    "stores_from_environment",
]


def open_store(
    urls: GivenUrl | Iterable[GivenUrl],
    *,
    window: int = DEFAULT_WINDOW,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
    on_wait: Callable[[StoreUrl], None] | None = None,
    on_taker: Callable[[StoreUrl, Sequence[StoreUrl]], None] | None = None,
    reconnect_s: float = 0.0,
    on_lost: Callable[[StoreUrl, float], None] | None = None,
) -> StoreList | RemoteStore | HttpStore:
    """A store over one URL, or over several as one. Nothing is connected yet.

    `urls`: one or several, as text or as `parse_store_url` gives them. The times, `on_wait` and
    `on_lost` are those of `RemoteStore`, `on_taker` that of `StoreList`.
    Raises: InvalidUrl, a ValueError; TypeError.
    """
    urls = read_store_urls(urls)

    def make(url: StoreUrl) -> RemoteStore | HttpStore:
        said: dict[str, Any] = {
            "timeout_s": timeout_s,
            "connect_timeout_s": connect_timeout_s,
            "on_wait": on_wait,
            "reconnect_s": reconnect_s,
            "on_lost": on_lost,
            "has_others": len(urls) > 1,
        }
        if isinstance(url.endpoint, FileEndpoint):
            from kapla.file_store import FileStore

            return FileStore(url, connect_timeout_s=connect_timeout_s, on_wait=on_wait)
        if isinstance(url.endpoint, HttpEndpoint):
            # Loaded by those who need it.
            from kapla.http.asking.store import HttpStore

            return HttpStore(url, **said)
        if url.others:
            from kapla.store_group import GroupStore

            return GroupStore(url, window=window, **said)
        return RemoteStore(url, window=window, **said)

    stores = [make(url) for url in urls]
    return stores[0] if len(stores) == 1 else StoreList(stores, on_taker=on_taker)

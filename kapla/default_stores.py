"""Which stores a client uses: those it is given, else $ERIS_STORE_URL, else a local socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kapla.errors import NoStore
from kapla.given_urls import parse_store_urls
from kapla.local_socket import SYSTEM_SOCKET, default_socket
from kapla.urls import NO_STORE, StoreUrl, parse_store_url

__all__ = ["default_store_urls", "stores_from_environment"]

_VARIABLE: Final = "ERIS_STORE_URL"


def default_store_urls(text: str | None = None) -> list[StoreUrl]:
    """The stores to use: `text` (space-separated URLs), else $ERIS_STORE_URL, else a local socket.

    The user's socket if it is there, or a daemon of theirs is starting; else the system's.
    Raises: InvalidUrl; NoStore, where `text` or the variable says so.
    """
    if text:
        if text.strip() == NO_STORE:
            raise NoStore(f"the store URL is “{NO_STORE}”: there is no store to work on")
        return parse_store_urls(text)
    given = stores_from_environment(os.environ)
    if given is None:
        raise NoStore(f"{_VARIABLE} says that there is no store; see --store-url")
    return given or [_local_store()]


def stores_from_environment(environment: Mapping[str, str]) -> list[StoreUrl] | None:
    """The stores that $ERIS_STORE_URL names: none of them if it is unset or empty.

    None, if it says that there is no store.
    Raises: InvalidUrl.
    """
    text = environment.get(_VARIABLE, "").strip()
    if text == NO_STORE:
        return None
    return parse_store_urls(text) if text else []


def _local_store() -> StoreUrl:
    own = default_socket(os.environ)
    # Not `Path.exists`, which raises where the directory may not be searched, as after `su`.
    use_system = not os.path.exists(own) and os.path.exists(SYSTEM_SOCKET)
    path = SYSTEM_SOCKET if use_system and not _is_starting(own) else own
    return parse_store_url(f"coap+unix://{quote(os.fsencode(path))}")


def _is_starting(own: Path) -> bool:
    # Loaded by those who have no daemon of their own beside the system's.
    from kapla.soon import is_starting

    return is_starting(own)

"""Where a user's programs keep what can be made again, as stock Guix has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = [
    "PROXY_CACHE",
    "caches_directory",
    "proxied_items_file",
    "public_items_file",
    "public_urns_file",
]

PROXY_CACHE: Final = "/var/cache/kapla/proxy"
"""Where `kapla proxy` keeps what it keeps, unless told otherwise."""


def caches_directory(environ: Mapping[str, str]) -> str | None:
    """The system's for root, unless the environment says otherwise; None for who has none."""
    caches = environ.get("XDG_CACHE_HOME", "")
    # By the rules of the variable another path than an absolute one is ignored.
    if caches.startswith("/"):
        return caches
    if os.geteuid() == 0:
        return "/var/cache"
    home = environ.get("HOME", "").rstrip("/")
    return f"{home}/.cache" if home.startswith("/") else None


def public_urns_file(public_items: str) -> str:
    """Where the read capabilities are of items that are noted in a file: beside it."""
    return f"{public_items}.urns"


def public_items_file(environ: Mapping[str, str]) -> str | None:
    """Where it is noted which items have a public signed narinfo: see `guix_glue.kept`."""
    directory = caches_directory(environ)
    return None if directory is None else f"{directory}/kapla/public-items"


def proxied_items_file(cache: str) -> str:
    """Where a proxy with this cache notes the same: beside what is for the proxy alone."""
    return f"{cache}/public/items"

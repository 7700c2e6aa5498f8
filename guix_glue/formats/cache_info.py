"""`/nix-cache-info`: what a substitute server says of itself. Pure.

Lines of a name, a colon and a value; of a name that comes twice the last one counts, as in Nix, and
others than these three are passed over. What is left out has Nix's default.
Source: Nix 2.8, its binary caches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from guix_glue.errors import ProtocolError

__all__ = ["LARGEST_CACHE_INFO", "CacheInfo", "format_cache_info", "parse_cache_info"]

LARGEST_CACHE_INFO: Final = 16 * 1024
"""Bytes; real ones have sixty."""

_DEFAULT_PRIORITY: Final = 50
_STORE_DIR: Final = re.compile(r"(?:/[0-9A-Za-z+._-]{1,255}){1,32}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Where the server's items belong, and how clients are to treat it.

    Clients ask servers with a lower `priority` first. `store_dir` is None if it is not told.
    """

    store_dir: str | None
    mass_query: bool = False
    priority: int = _DEFAULT_PRIORITY


def parse_cache_info(data: bytes) -> CacheInfo:
    """Read what a server says.

    Raises: ProtocolError, if it is too long, or a value is none.
    """
    if len(data) > LARGEST_CACHE_INFO:
        raise ProtocolError(f"nix-cache-info has more than {LARGEST_CACHE_INFO} bytes")
    fields = {
        name: value.strip()
        for name, colon, value in (
            line.partition(":") for line in data.decode("utf-8", "replace").split("\n")
        )
        if colon
    }
    store_dir, priority = fields.get("StoreDir"), fields.get("Priority")
    if store_dir is not None and not _STORE_DIR.fullmatch(store_dir):
        raise ProtocolError("the StoreDir of nix-cache-info is no directory")
    if priority is not None and not _NUMBER.fullmatch(priority):
        raise ProtocolError("the Priority of nix-cache-info is no number")
    return CacheInfo(
        store_dir,
        fields.get("WantMassQuery") == "1",
        _DEFAULT_PRIORITY if priority is None else int(priority),
    )


def format_cache_info(info: CacheInfo) -> bytes:
    """Write it, in the order of the stock server."""
    lines = [
        *([f"StoreDir: {info.store_dir}"] if info.store_dir is not None else []),
        f"WantMassQuery: {int(info.mass_query)}",
        f"Priority: {info.priority}",
    ]
    return "".join(f"{line}\n" for line in lines).encode()

"""What a request's path asks of a proxy, as a value. Pure: any path gives a route or none.

The URL of a nar says which nar it is: clients remember it for longer than we do, and what servers
have may be another by then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from guix_glue.errors import GuixError
from guix_glue.formats import nixbase32
from guix_glue.formats.store_path import check_hash_part, parse_hash
from guix_glue.model import StoreItem

__all__ = [
    "CacheInfoPage",
    "ElsewhereNar",
    "Landing",
    "NarOf",
    "NarinfoOf",
    "Route",
    "nar_url",
    "parse_path",
]

_LONGEST: Final = 4096
_DIGITS: Final = 52
_NARINFO: Final = re.compile(r"/([0-9a-z]{32})\.narinfo")
_NAR: Final = re.compile(rf"/nar/([0-9a-z]{{32}})-([0-9a-z]{{{_DIGITS}}})")
_ELSEWHERE: Final = re.compile(r"/(?:[^/]+/)+([0-9a-z]{32})-[^/]+")


@dataclass(frozen=True, slots=True)
class Landing:
    """The page for people."""


@dataclass(frozen=True, slots=True)
class CacheInfoPage:
    """`/nix-cache-info`."""


@dataclass(frozen=True, slots=True)
class NarinfoOf:
    """`/HASHPART.narinfo`."""

    hash_part: str


@dataclass(frozen=True, slots=True)
class NarOf:
    """`/nar/HASHPART-NARHASH`; `nar_hash` has 32 bytes."""

    hash_part: str
    nar_hash: bytes


@dataclass(frozen=True, slots=True)
class ElsewhereNar:
    """`…/HASHPART-NAME`, as servers name their nars, and some sign that; `path` as it was sent."""

    hash_part: str
    path: str


Route = Landing | CacheInfoPage | NarinfoOf | NarOf | ElsewhereNar


def nar_url(item: StoreItem) -> str:
    """The URL of an item's nar, relative to the proxy's."""
    return f"nar/{item.hash_part}-{nixbase32.encode(item.nar_hash)}"


def parse_path(path: str) -> Route | None:
    """Read the path of a request; None for what is not there."""
    if len(path) > _LONGEST:
        return None
    match path:
        case "/" | "/index.html":
            return Landing()
        case "/nix-cache-info":
            return CacheInfoPage()
    try:
        return _parse_item(path)
    except GuixError:
        # No hash part, or no hash: there is nothing at such a place.
        return None


def _parse_item(path: str) -> Route | None:
    if narinfo := _NARINFO.fullmatch(path):
        return NarinfoOf(check_hash_part(narinfo[1]))
    if nar := _NAR.fullmatch(path):
        return NarOf(check_hash_part(nar[1]), parse_hash(f"sha256:{nar[2]}"))
    if elsewhere := _ELSEWHERE.fullmatch(path):
        return ElsewhereNar(check_hash_part(elsewhere[1]), path)
    return None

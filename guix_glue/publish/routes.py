"""What a request's path asks for, as a value. Pure: any path at all gives a route or none.

Components are taken apart first and percent-decoded then, so that no encoded slash or dot makes a
path of its own; what is no proper name of a store item asks for nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from guix_glue.errors import GuixError
from guix_glue.formats.compression import Compression
from guix_glue.formats.store_path import (
    HASH_PART_LENGTH,
    check_base_name,
    check_hash_part,
    parse_hash,
)

__all__ = [
    "BuildLog",
    "CacheInfo",
    "FixedFile",
    "Landing",
    "ListingOf",
    "MapOf",
    "MapUrn",
    "NarOf",
    "NarinfoOf",
    "Route",
    "SigningKey",
    "nar_url",
    "parse_nar_path",
    "parse_path",
]

_LONGEST: Final = 4096
_ANY_HASH_PART: Final = "0" * HASH_PART_LENGTH
_NIXBASE32_SHA256: Final = re.compile(r"[0-9a-z]{52}")


@dataclass(frozen=True, slots=True)
class Landing:
    """The page for people."""


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """`/nix-cache-info`."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`/signing-key.pub`."""


@dataclass(frozen=True, slots=True)
class NarinfoOf:
    """`/HASH.narinfo`."""

    hash_part: str


@dataclass(frozen=True, slots=True)
class ListingOf:
    """`/HASH.ls`."""

    hash_part: str


@dataclass(frozen=True, slots=True)
class NarOf:
    """`/nar/HASH-NAME` and `/nar/METHOD/HASH-NAME`."""

    base_name: str
    method: Compression


@dataclass(frozen=True, slots=True)
class FixedFile:
    """`/file/NAME/sha256/HASH`; `sha256` has 32 bytes."""

    name: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class BuildLog:
    """`/log/HASH-NAME`."""

    base_name: str


@dataclass(frozen=True, slots=True)
class MapOf:
    """`/map/HASH`: the URN of one item."""

    hash_part: str


@dataclass(frozen=True, slots=True)
class MapUrn:
    """`/map.urn`: the URN of the map."""


Route = (
    Landing
    | CacheInfo
    | SigningKey
    | NarinfoOf
    | ListingOf
    | NarOf
    | FixedFile
    | BuildLog
    | MapOf
    | MapUrn
)


def parse_nar_path(text: str) -> tuple[str, ...]:
    """Read the option --nar-path: components between slashes.

    Raises: ValueError.
    """
    components = tuple(part for part in text.split("/") if part)
    if not components or any(part in (".", "..") for part in components):
        raise ValueError(f"{text!r} is no path for nars")
    if len(components) == 1 and components[0] in ("file", "log", "map"):
        raise ValueError(f"{text!r} is taken for something else")
    return components


def nar_url(nar_path: tuple[str, ...], method: Compression, base_name: str) -> str:
    """The URL of a nar, relative to the server's."""
    middle = () if method is Compression.NONE else (method.value,)
    return "/".join(quote(part, safe="") for part in (*nar_path, *middle, base_name))


def parse_path(path: str, nar_path: tuple[str, ...] = ("nar",)) -> Route | None:
    """Read the path of a request, percent-encoded as it was sent; None for what is not there."""
    if len(path) > _LONGEST or not path.startswith("/"):
        return None
    parts = tuple(unquote(part, errors="surrogateescape") for part in path.split("/") if part)
    try:
        return _parse_parts(parts, nar_path)
    except GuixError:
        # No hash part, no name of an item, no hash: there is nothing at such a place.
        return None


def _parse_parts(parts: tuple[str, ...], nar_path: tuple[str, ...]) -> Route | None:
    match parts:
        case () | ("index.html",):
            return Landing()
        case ("nix-cache-info",):
            return CacheInfo()
        case ("signing-key.pub",):
            return SigningKey()
        case (name,) if name.endswith(".narinfo"):
            return NarinfoOf(check_hash_part(name.removesuffix(".narinfo")))
        case (name,) if name.endswith(".ls"):
            return ListingOf(check_hash_part(name.removesuffix(".ls")))
        case ("file", name, "sha256", digest) if _NIXBASE32_SHA256.fullmatch(digest):
            check_base_name(f"{_ANY_HASH_PART}-{name}")
            return FixedFile(name, parse_hash(f"sha256:{digest}"))
        case ("log", name):
            return BuildLog(check_base_name(name))
        case ("map", name):
            return MapOf(check_hash_part(name))
        case ("map.urn",):
            return MapUrn()
    if parts[: len(nar_path)] == nar_path:
        return _parse_nar(parts[len(nar_path) :])
    return None


def _parse_nar(parts: tuple[str, ...]) -> NarOf | None:
    match parts:
        case (name,):
            return NarOf(check_base_name(name), Compression.NONE)
        case (method, name) if method in _METHODS:
            return NarOf(check_base_name(name), _METHODS[method])
    return None


# Plain nars have a path without the name of a method.
_METHODS: Final = {one.value: one for one in Compression if one is not Compression.NONE}

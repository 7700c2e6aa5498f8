"""Content addresses of Nix, the line `CA`: does the path of an item follow from one? Pure.

Nobody signs that line, and a wrong one makes Nix fail, or die. But the path of such an item is made
of its address, and the path is signed: so it is seen whether it is the one.
Source: `makeStorePath`, `makeFixedOutputPath` and `makeTextPath` of Nix 2.8, store-api.cc.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from guix_glue.errors import InvalidEncoding
from guix_glue.formats import nixbase32
from guix_glue.formats.store_path import make_store_path
from guix_glue.model import StoreItem

__all__ = ["is_content_address"]

_SIZES: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
_ADDRESS: Final = re.compile(
    r"(?P<method>text|fixed|fixed:r):(?P<algorithm>[a-z0-9]{3,6}):(?P<digits>[0-9a-z]{26,103})"
)


def is_content_address(address: str, item: StoreItem) -> bool:
    """Whether the item's path follows from an address as Nix writes it, `fixed:r:sha256:0abc…`."""
    match = _ADDRESS.fullmatch(address)
    digest = None if match is None else _digest(match["algorithm"], match["digits"])
    if match is None or digest is None:
        return False
    return item.path == _path(match["method"], match["algorithm"], digest, item)


def _digest(algorithm: str, digits: str) -> bytes | None:
    try:
        digest = nixbase32.decode(digits)
    except InvalidEncoding:
        return None
    return digest if len(digest) == _SIZES.get(algorithm) else None


def _path(method: str, algorithm: str, digest: bytes, item: StoreItem) -> str | None:
    """The path of what is addressed so, has the references of the item, and its name."""
    itself = item.base_name in item.references
    if algorithm == "sha256" and method == "fixed:r":
        kind, inner = f"source{_named(item)}{':self' if itself else ''}", digest.hex()
    elif algorithm == "sha256" and method == "text" and not itself:
        kind, inner = f"text{_named(item)}", digest.hex()
    elif method != "text" and not item.references:
        recursive = "r:" if method == "fixed:r" else ""
        described = f"fixed:out:{recursive}{algorithm}:{digest.hex()}:"
        kind, inner = "output:out", hashlib.sha256(described.encode()).hexdigest()
    else:
        return None
    return make_store_path(kind, inner, item.store_dir, item.name)


def _named(item: StoreItem) -> str:
    others = sorted({*item.references} - {item.base_name})
    return "".join(f":{item.store_dir}/{name}" for name in others)

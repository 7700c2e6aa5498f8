"""Targets about pins: what a peer may say of them."""

from __future__ import annotations

from typing import Final

from kapla.coap.blocks import BadRequest
from kapla.coap.maps import format_map, read_map

__all__ = ["pin_requests"]

_TYPES: Final[dict[str, type]] = {
    "name": str,
    "root": bytes,
    "token": bytes,
    "owner": int,
    "bytes": int,
    "lend": bool,
    "keep": bool,
    "incomplete": bool,
}


def pin_requests(data: bytes) -> None:
    """Maps about pins: refused, or values of the right types that can be written again."""
    try:
        found = read_map(data, _TYPES)
    except BadRequest:
        return
    assert all(type(value) is _TYPES[name] for name, value in found.items())
    assert read_map(format_map(found), _TYPES) == found

"""Targets about pins: what a peer may say of them."""

from __future__ import annotations

from typing import Final

from eris.errors import StoreUnavailable
from kapla import pin_messages
from kapla.coap.blocks import BadRequest
from kapla.coap.maps import format_map, read_map

__all__ = ["pin_answers", "pin_requests"]

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


def pin_answers(data: bytes) -> None:
    """What a client is told of a pin: refused, or a summary whose figures are finite."""
    try:
        found = pin_messages.read_summary(pin_messages.read_map(data))
    except StoreUnavailable:
        return
    assert 0 <= found.own_block_bytes < 2**80
    assert 0 <= found.block_bytes < 2**80

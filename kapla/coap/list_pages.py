"""The `list` resource as both ends see it: its path, and a page of references as bytes.

A page is eight bytes that say where the next one begins, and references, 32 bytes each. Nothing at
all is the end. What the eight bytes mean is the store's own business; those of a page are greater
than those of the page before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.coap.blocks import BadRequest, blocks_path
from kapla.coap.frame import OptionNumber, encode_options

__all__ = ["format_page", "list_options", "list_path", "parse_after", "parse_page"]

_PLACE: Final = 8
_AFTER: Final = re.compile("after=([0-9a-f]{16})")


def list_path(blocks: tuple[str, ...]) -> tuple[str, ...]:
    """Where the list is, beside the blocks."""
    return (*blocks[:-1], "list")


def list_options(store_path: tuple[str, ...], after: bytes) -> bytes:
    """The options of a GET for a page: the first one if nothing is to be behind."""
    options = [
        (OptionNumber.URI_PATH, name.encode()) for name in list_path(blocks_path(store_path))
    ]
    if after:
        options.append((OptionNumber.URI_QUERY, f"after={after.hex()}".encode()))
    return encode_options(options)


def parse_after(queries: Sequence[str]) -> int:
    """Read where a page is to begin.

    Raises: BadRequest.
    """
    if not queries:
        return 0
    found = _AFTER.fullmatch(queries[0])
    if found is None or len(queries) > 1:
        raise BadRequest("one query is understood: after= and 16 hexadecimal digits")
    return int(found[1], 16)


def format_page(references: Sequence[Reference], following: int) -> bytes:
    """Write a page."""
    return following.to_bytes(_PLACE, "big") + b"".join(references)


def parse_page(payload: bytes) -> tuple[list[Reference], bytes]:
    """Read a page: the references, and what the next page is behind; nothing at the end.

    Raises: ValueError.
    """
    if not payload:
        return [], b""
    if len(payload) % REFERENCE_SIZE != _PLACE:
        raise ValueError(f"{len(payload)} bytes are no page of a list")
    references = [
        Reference(payload[start : start + REFERENCE_SIZE])
        for start in range(_PLACE, len(payload), REFERENCE_SIZE)
    ]
    return references, payload[:_PLACE]

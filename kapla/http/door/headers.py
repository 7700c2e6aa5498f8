"""What the answers of the door say besides blocks. Pure.

A block never changes, so whoever has it may keep it for ever, and its reference is its tag. That
there is no block may change at any time: that is kept by nobody. Pages of any origin may ask, and
measure how long that takes.
Source: RFC 9110, 9111, 8246; the Fetch and Resource Timing standards; the trustless gateway
specification of IPFS.
"""

from __future__ import annotations

import re
from typing import Final

from eris.base32 import format_base32_reference
from kapla.http.door.routes import BlockOf
from kapla.http.wire.batch import LENT_HEADER

__all__ = [
    "FOR_ALL",
    "OCTETS",
    "TEXT",
    "names_tag",
    "of_batch",
    "of_block",
    "of_preflight",
    "tag_of",
]

OCTETS: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
_RAW: Final = "application/vnd.ipld.raw"

FOR_ALL: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": f"Content-Length, ETag, {LENT_HEADER}, X-Ipfs-Path,"
    " X-Ipfs-Roots",
    "Timing-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""In each answer; blocks are kept all the same."""

_FOR_EVER: Final = "public, max-age=31536000, immutable"
_TAGS: Final = re.compile(r'(?:W/)?("[!#-~\x80-\xff]*")')
_LONGEST: Final = 4096
# For a day, which is longer than browsers do.
_PREFLIGHT_S: Final = 86_400


def tag_of(block: BlockOf) -> str:
    """The strong tag of a block: its reference in Base32."""
    return f'"{format_base32_reference(block.reference).decode("ascii")}"'


def names_tag(header: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names a tag; a weak one of the same name will do there.

    Not `*`, which asks whether there is anything: that is not known before it is looked up.
    """
    return header is not None and len(header) <= _LONGEST and tag in _TAGS.findall(header)


def of_block(block: BlockOf) -> dict[str, str]:
    """Of a block that is given, or that the client has."""
    headers = {
        **FOR_ALL,
        "Cache-Control": _FOR_EVER,
        "Content-Type": OCTETS,
        "ETag": tag_of(block),
        LENT_HEADER: "1",
    }
    if block.cid is not None:
        headers |= {
            "Content-Type": _RAW,
            "Content-Disposition": f'attachment; filename="{block.cid}.bin"',
            "X-Ipfs-Path": f"/ipfs/{block.cid}",
            "X-Ipfs-Roots": block.cid,
        }
    if block.varies:
        headers["Vary"] = "Accept"
    return headers


def of_batch() -> dict[str, str]:
    """Of the blocks that were asked for together."""
    return {**FOR_ALL, "Content-Type": OCTETS, LENT_HEADER: "1"}


def of_preflight(methods: tuple[str, ...]) -> dict[str, str]:
    """Of the answer to a page that asks whether it may ask."""
    return {
        **FOR_ALL,
        "Allow": ", ".join((*methods, "OPTIONS")),
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": "Accept, Cache-Control, Content-Type, If-None-Match",
        "Access-Control-Max-Age": str(_PREFLIGHT_S),
    }

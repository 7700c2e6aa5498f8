"""What a peer is asked by: a connection on which CoAP is spoken, or a server of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from kapla.coap.link import Link
    from kapla.http.asking.peer import HttpPeer

__all__ = ["Line"]

Line: TypeAlias = "Link | HttpPeer"

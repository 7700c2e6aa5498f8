"""A peer as a session sees it: whichever of its connections can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eris.errors import StoreRefused, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.coap.blocks import block_query, get_options_by_size, put_options, unpack_bitmap
from kapla.coap.frame import Code
from kapla.coap.link import Link
from kapla.coap.requester import Requester
from kapla.peers.line import Line
from kapla.peers.source import Block
from kapla.peers.table import Peer
from kapla.peers.telling import Telling

__all__ = ["LinkSource"]


class LinkSource:
    """Asks one peer, with this Hop-Limit."""

    def __init__(self, peer: Peer[Line], hops: int) -> None:
        self._peer = peer
        self._link = _link_of(peer)
        self._telling = Telling(self._find)
        self._fetch_options = put_options((), hops) + b"\xff"
        self._get_options = get_options_by_size((), hops)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._peer.settings.name or self._peer.name

    @property
    def peer(self) -> Peer[Line]:
        """Whom it asks."""
        return self._peer

    def get(self, reference: Reference, block_size: BlockSize | None) -> asyncio.Future[Block]:
        """Ask for a block: see `Source`."""
        asking = self._asking()
        if asking is None:
            return _failed(StoreUnavailable(f"the connection to {self.name} is lost"))
        size = block_size or BlockSize.LARGE
        before, behind = self._get_options[size]
        body = before + block_query(reference) + behind
        return asking.want(body, reference, int(size), self._block)

    def _block(self, data: bytes, is_lent: bool) -> Block:
        return Block(data, is_lent, self.name)

    def find(self, references: Sequence[Reference]) -> asyncio.Future[list[bool]]:
        """Ask which blocks are there: see `Source`."""
        return asyncio.ensure_future(self._telling.find(references))

    async def _find(self, references: Sequence[Reference]) -> list[bool]:
        asking = self._asking()
        if asking is None:
            raise StoreUnavailable(f"the connection to {self.name} is lost")
        body = self._fetch_options + b"".join(references)
        answer: bytes | None = await asking.request(Code.FETCH, body, b"", 0)
        try:
            return unpack_bitmap(answer or b"", len(references))
        except ValueError as error:
            raise StoreRefused(f"{self.name} does not tell what it has: {error}") from None

    def _asking(self) -> Requester | None:
        # Looked up for each block: so only when the last one is of no use.
        if self._link is None or not self._link.usable:
            self._link = _link_of(self._peer)
        return None if self._link is None else self._link.asking


def _link_of(peer: Peer[Line]) -> Link | None:
    """Its connection, if it is one on which CoAP is spoken."""
    line = peer.link
    return line if isinstance(line, Link) else None


def _failed(error: Exception) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future

"""A link to a peer that we dialled: it is known when something came, and why it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kapla.coap.link import Link
from kapla.identity.failures import tls_reason
from kapla.peers.table import Peer

if TYPE_CHECKING:
    from kapla.coap.answering import Answering
    from kapla.coap.requester import Requester

__all__ = ["PeerLink"]


class PeerLink(Link):
    """A link with both roles, to `peer`."""

    def __init__(
        self,
        peer: Peer[Any],
        answering: Callable[[Link], Answering],
        asking: Callable[[Link], Requester],
    ) -> None:
        super().__init__(answering, asking)
        self.peer = peer
        self.greeted: asyncio.Future[None] = self.closed.get_loop().create_future()
        """Done when the peer's CSM is there, or nothing comes any more."""
        self.heard_at = self._now()
        """When something came, by the loop's clock."""
        self._why: str | None = None
        self._pinged_at: float | None = None

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        self.heard_at = self._now()
        if self._pinged_at is not None:
            self.ping_s, self._pinged_at = self.heard_at - self._pinged_at, None
        super().data_received(data)
        if self.connection.peer_known:
            self._set_greeted()

    def connection_lost(self, error: Exception | None) -> None:
        """Keep why it is lost."""
        closing = self.connection.closing
        if self._why is None:
            if closing is not None:
                self._why = closing.reason
            elif error is not None:
                self._why = tls_reason(error) or getattr(error, "strerror", None) or str(error)
        super().connection_lost(error)
        self._set_greeted()

    def ping(self) -> None:
        """Ask the other end for a sign of life."""
        self._pinged_at = self._now()
        self.connection.ping(b"")
        self.write([self.connection.take_output()])

    def give_up(self, reason: str) -> None:
        """End it at once."""
        self._why = reason
        self.abort()

    async def wait_closed(self) -> str:
        """Wait until it has ended; returns why, for people."""
        # Not awaited itself: whoever is cancelled meanwhile would cancel it for all.
        await asyncio.wait([self.closed])
        return self._why or "it has ended the connection"

    def _now(self) -> float:
        return self.closed.get_loop().time()

    def _set_greeted(self) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)

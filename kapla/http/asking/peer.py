"""A peer that is a server of HTTP: it is asked, and never asks.

There is no one connection to watch, so that it counts as connected from the moment when something
answers there that speaks HTTP, until a request finds nobody. It has no key: what it gives is
checked as ever, and may be given on only if the server says that it lends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Self

from eris.errors import StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.errors import CannotConnect, StoreSilent
from kapla.http.asking.failures import ConnectionLost
from kapla.http.asking.single import Given
from kapla.http.asking.store import HttpStore
from kapla.peers.source import Block
from kapla.urls import HttpEndpoint, StoreUrl

__all__ = ["HttpPeer", "HttpSource"]

_SILENT_S: Final = 60.0
_GONE: Final = (CannotConnect, ConnectionLost, StoreSilent)


class HttpSource:
    """It as a session sees it; `name` is what people call it."""

    def __init__(self, name: str, store: HttpStore) -> None:
        self.name = name
        self._store = store

    def get(self, reference: Reference, block_size: BlockSize | None) -> asyncio.Future[Block]:
        """Ask for a block: see `Source`."""
        return self._store.want(reference, self._block)

    def find(self, references: Sequence[Reference]) -> asyncio.Future[list[bool]]:
        """Ask which blocks are there: see `Source`."""
        return asyncio.ensure_future(self._store.find(references))

    def _block(self, given: Given) -> Block:
        return Block(given.data, given.is_lent, self.name)


class HttpPeer:
    """One such peer, while it is there: `Kept` of kapla.peers.dialling."""

    def __init__(self, url: StoreUrl, name: str, connect_timeout_s: float) -> None:
        endpoint = url.endpoint
        assert isinstance(endpoint, HttpEndpoint)
        self._store = HttpStore(
            url,
            timeout_s=_SILENT_S,
            connect_timeout_s=connect_timeout_s,
            has_others=True,
            on_failed=self._failed,
        )
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self.on_closed: Callable[[HttpPeer], None] = lambda peer: None
        """Is told when all its connections are closed."""
        self.address = endpoint.origin.partition("//")[2]
        """Where it is, for people."""
        self.ping_s: float | None = None
        """How long it took to answer at all."""
        self.source = HttpSource(name, self._store)

    @classmethod
    async def reach(cls, url: StoreUrl, name: str, timeout_s: float) -> Self:
        """See that it is there, within this time. Raises: StoreUnavailable."""
        peer = cls(url, name, timeout_s)
        began = peer._loop.time()
        try:
            async with asyncio.timeout(timeout_s):
                await peer._store.connect()
        except TimeoutError:
            await peer.close("it did not answer")
            raise StoreUnavailable(f"{url} did not answer within {timeout_s:g} s") from None
        except BaseException:
            await peer.close("it could not be reached")
            raise
        peer.ping_s = peer._loop.time() - began
        return peer

    @property
    def usable(self) -> bool:
        """Whether it can be asked."""
        return not self._closed.done()

    @property
    def heard_at(self) -> float:
        """When it gave a sign of life: none is expected while it is not asked."""
        return self._loop.time()

    def ping(self) -> None:
        """Nothing is kept open that would have to be kept alive."""

    def give_up(self, reason: str) -> None:
        """Ask it no more."""
        if not self._closed.done():
            self._closed.set_result(reason)
            self._closing = self._loop.create_task(self._store.close())
            self._closing.add_done_callback(self._tell_closed)

    def abort(self) -> None:
        """Ask it no more: it gave a wrong block, or this daemon ends."""
        self.give_up("what it gave is not trusted")

    async def wait_closed(self) -> str:
        """Wait until it is asked no more; returns why, for people."""
        # Not awaited itself: whoever is cancelled meanwhile would cancel it for all.
        await asyncio.wait([self._closed])
        if self._closing is not None:
            await asyncio.wait([self._closing])
        return self._closed.result()

    async def close(self, reason: str) -> None:
        """Ask it no more, and wait until all its connections are closed."""
        self.give_up(reason)
        await self.wait_closed()

    def _tell_closed(self, _: object) -> None:
        self.on_closed(self)

    def _failed(self, error: StoreUnavailable) -> None:
        """A request came to nothing; whether nobody is there is another matter."""
        if isinstance(error, _GONE):
            self.give_up(getattr(error, "reason", None) or str(error))

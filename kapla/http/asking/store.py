"""A store behind a URL of HTTP: blocks can be got, and nothing else.

A server of N2R is asked by batches, if it has them, else for one block at a time; a gateway always
so. What comes is checked here, since the server may be anybody: a block that is not the right one
is an error that names the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote

from eris.errors import ErisError, StoreRefused, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.http.asking.batches import Batches, Make
from kapla.http.asking.exchange import Exchange
from kapla.http.asking.finding import find_blocks
from kapla.http.asking.patience import Patience
from kapla.http.asking.single import Gateway, Given, Resolver, Single, check_size
from kapla.urls import HttpEndpoint, StoreUrl

__all__ = ["HttpStore"]

_T = TypeVar("_T")

# After so long without an answer it is said that it is waited for.
_SAID_AFTER_S: Final = 3.0


class HttpStore:
    """A server of blocks. Use as an asynchronous context, or `close()` it.

    `timeout_s`: how long the server may be silent, and `connect_timeout_s` how long a connection to
    it may take. The rest is as for `RemoteStore`. `on_failed` is told when it cannot be asked.
    """

    def __init__(
        self,
        url: StoreUrl,
        *,
        timeout_s: float,
        connect_timeout_s: float,
        on_wait: Callable[[StoreUrl], None] | None = None,
        reconnect_s: float = 0.0,
        on_lost: Callable[[StoreUrl, float], None] | None = None,
        has_others: bool = False,
        on_failed: Callable[[StoreUnavailable], None] | None = None,
    ) -> None:
        assert isinstance(url.endpoint, HttpEndpoint)
        self.url = url
        self._on_wait = on_wait
        self._on_failed = on_failed
        name = str(url)
        prefix = "".join("/" + quote(part, safe="") for part in url.store_path)
        self._exchange = Exchange(
            url.endpoint.origin + prefix,
            name,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        self._patience = Patience(
            name,
            reconnect_s=reconnect_s,
            has_others=has_others,
            on_lost=None if on_lost is None else partial(on_lost, url),
        )
        self._single = Single(
            self._exchange, Gateway() if url.endpoint.is_gateway else Resolver(), name
        )
        self._has_batches = not url.endpoint.is_gateway
        self._batches: Batches | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._heard = 0.0
        self.blocks = self.bytes = 0
        """What it has given so far."""
        self.found = 0
        """How many blocks it said that it has: only where blocks are put that is of use."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def urls(self) -> list[StoreUrl]:
        """Where the store is: one place, as a `StoreList` has several."""
        return [self.url]

    @property
    def stores(self) -> list[HttpStore]:
        """The stores that there are: this one."""
        return [self]

    @property
    def owed(self) -> int:
        """How many requests have no answer so far."""
        return self._waiting

    @property
    def connected(self) -> bool:
        """Whether it has answered, and has not failed since."""
        return self._patience.is_answering

    @property
    def reconnecting(self) -> bool:
        """Whether it is tried to have a lost connection again, and requests should not wait."""
        return False

    def stay_here(self) -> None:
        """From now on GETs are for what the store has itself: what it does is up to it."""

    async def connect(self) -> None:
        """See that there is a server: tells early whether the store can be reached.

        Raises: StoreUnavailable.
        """
        await self._watched(self._patience.run(self._single.probe))

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`. The request goes out at once."""
        name = str(self.url)
        return self.want(reference, lambda given: check_size(reference, given, block_size, name))

    def want(self, reference: Reference, make: Make) -> asyncio.Future[Any]:
        """Fetch a block, and make something of it: see `Batches.want`."""

        def made(given: Given) -> Any:
            self.blocks += 1
            self.bytes += len(given.data)
            return make(given)

        batches = self._opened()
        future = self._singly(reference, made) if batches is None else batches.want(reference, made)
        self._watch(future)
        return future

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Refuse a block. Raises, when awaited: StoreRefused."""
        return _refused(self._refusal())

    async def find(
        self, references: Sequence[Reference], *, with_peers: bool = False
    ) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`, and `find_blocks`.

        `with_peers` makes no difference: what a server gives, it has.
        """
        batches = self._opened()
        return await self._watched(find_blocks(references, self._single, batches, self._patience))

    async def taker(self) -> NoReturn:
        """The store that puts go to: there is none. Raises: StoreRefused."""
        raise self._refusal()

    async def takes_blocks(self) -> bool:
        """Whether it lets us put blocks: no."""
        return False

    async def stat(self) -> NoReturn:
        """Tell what it holds: nobody can say. Raises: StoreRefused."""
        raise StoreRefused(f"{self.url} gives blocks, and does not tell what it holds")

    async def close(self) -> None:
        """Fail what is still waiting, and end all connections, for good."""
        if self._looking is not None:
            self._looking.cancel()
        if self._batches is not None:
            await self._batches.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._exchange.close()

    def _refusal(self) -> StoreRefused:
        return StoreRefused(f"{self.url} is read-only: over HTTP blocks can be got, and no more")

    def _opened(self) -> Batches | None:
        """What groups requests; None, where there is nothing like that."""
        if self._has_batches and self._batches is None:
            self._batches = Batches(self._exchange, self._patience, self._fetch, str(self.url))
        return self._batches

    def _singly(self, reference: Reference, make: Make) -> asyncio.Future[Any]:
        async def get() -> Any:
            asked = self._fetch(reference)
            try:
                # Not awaited itself: that `close` cancels it is no wish of whoever waits here.
                await asyncio.wait([asked])
            finally:
                asked.cancel()
            if asked.cancelled():
                raise StoreUnavailable(f"the connection to {self.url} was closed")
            return make(asked.result())

        return asyncio.ensure_future(get())

    def _fetch(self, reference: Reference) -> asyncio.Future[Given]:
        asked = asyncio.ensure_future(self._patience.run(lambda: self._single.get(reference)))
        self._tasks.add(asked)
        asked.add_done_callback(self._tasks.discard)
        return asked

    async def _watched(self, work: Coroutine[Any, Any, _T]) -> _T:
        asked = asyncio.ensure_future(work)
        self._watch(asked)
        return await asked

    def _watch(self, asked: asyncio.Future[Any]) -> None:
        """Say when it is waited for long, once, and when it cannot be asked."""
        self._waiting += 1
        asked.add_done_callback(self._came)
        if self._on_wait is not None and self._looking is None:
            self._heard = asyncio.get_running_loop().time()
            self._look_in(_SAID_AFTER_S)

    def _came(self, asked: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        self._heard = asyncio.get_running_loop().time()
        error = None if asked.cancelled() else asked.exception()
        if isinstance(error, StoreUnavailable) and self._on_failed is not None:
            self._on_failed(error)

    def _look_in(self, seconds: float) -> None:
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._looking = None
        if not self._waiting:
            return
        left_s = self._heard + _SAID_AFTER_S - asyncio.get_running_loop().time()
        if left_s > 0:
            self._look_in(left_s)
        elif self._on_wait is not None:
            on_wait, self._on_wait = self._on_wait, None
            on_wait(self.url)


def _refused(error: ErisError) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future

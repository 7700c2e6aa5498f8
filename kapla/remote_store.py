"""The store port over the wire: a store behind a URL.

One connection, shared by any number of tasks, made when it is first needed. When it is lost, what
was under way is asked again on the next one, if that was to be (`kapla.again`); else it fails with
`StoreUnavailable`, and the next request connects anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from itertools import compress
from types import TracebackType
from typing import Any, Final, Self

from eris.errors import StoreFull, StoreRefused, StoreUnavailable
from eris.model import BlockSize, EncodedBlock, Reference
from kapla.again import Again
from kapla.coap.asked import Asked, failed
from kapla.coap.beyond import FULL_HOPS
from kapla.coap.blocks import (
    STAT_PATH,
    block_query,
    get_options_by_size,
    put_options,
    unpack_bitmap,
)
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.coap.link import Link
from kapla.coap.lot import Lot
from kapla.coap.requester import SAID_AFTER_S, Requester
from kapla.connecting import connect
from kapla.errors import InvalidUrl, RequestMalformed, UnknownAnswer
from kapla.given_urls import GivenUrl, read_store_url
from kapla.held import Held
from kapla.parts import ask_in_parts
from kapla.telling import list_pages, read_report
from kapla.urls import HttpEndpoint, StoreUrl

__all__ = [
    "DEFAULT_CONNECT_TIMEOUT_S",
    "DEFAULT_TIMEOUT_S",
    "DEFAULT_WINDOW",
    "Ask",
    "RemoteStore",
]

DEFAULT_WINDOW: Final = 4096
"""Requests in flight at most: a bound for memory. What the link can use is found out."""
DEFAULT_TIMEOUT_S: Final = 60.0
"""How long an answer may take: a disk may be slow, and a commit wait for others."""
DEFAULT_CONNECT_TIMEOUT_S: Final = 10.0
"""How long a connection and its greeting may take: no disk is asked for these."""
# The Hop-Limit of a request that ends at whoever gets it.
_NO_FURTHER: Final = 1
Ask = Callable[[int, bytes], Awaitable[tuple[int, bytes]]]
"""Sends a request, code and body, on one connection; code and payload of the answer."""


class RemoteStore:
    """A store behind a URL. Use as an asynchronous context, or `close()` it.

    `url` is text, or what `parse_store_url` gives: InvalidUrl or TypeError is raised for others.

    `timeout_s`: how long the whole connection may stay silent while requests wait for it; a slow
    store that keeps answering is not cut off. `connect_timeout_s`: how long it may take until there
    is a connection, and again until the store greets on it: one that is stopped does not, though
    the system takes connections for it. `on_wait` is called once, after 3 s without an answer.

    `reconnect_s`: how long a store that was there is tried to be reached again when its connection
    is lost. `on_lost` is then called, with that time. `has_others`: there are others to get blocks
    from, so that GETs need not wait for this one.
    """

    def __init__(
        self,
        url: GivenUrl,
        *,
        window: int = DEFAULT_WINDOW,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        on_wait: Callable[[StoreUrl], None] | None = None,
        reconnect_s: float = 0.0,
        on_lost: Callable[[StoreUrl, float], None] | None = None,
        has_others: bool = False,
    ) -> None:
        self.url = url = read_store_url(url)
        if isinstance(url.endpoint, HttpEndpoint) or (url.others and type(self) is RemoteStore):
            raise InvalidUrl("a RemoteStore is one of CoAP; kapla.client.open_store takes others")
        self._window = window
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._on_wait = on_wait
        self._put_options = put_options(url.store_path) + b"\xff"
        self._set_hops(0)
        self._wire: Requester | None = None
        self.on_connected: Callable[[Ask], Coroutine[Any, Any, None]] | None = None
        """Called with each new connection, before anything else is asked on it: what it has to say
        goes first. What it raises is what every request gets that waits for the connection."""
        self.found = 0
        """How many blocks it said that it has."""
        self.held: Held | None = None
        """Is told what is put, and what is found, while there is one."""
        # Those that take no more requests, but are still owed answers.
        self._leaving: set[Requester] = set()
        self._connecting: asyncio.Task[Requester] | None = None
        told = None if on_lost is None else partial(on_lost, url)
        self._again = Again(reconnect_s, has_others=has_others, on_lost=told)

    def _set_hops(self, hops: int) -> None:
        self._get_options = get_options_by_size(self.url.store_path, hops)

    def stay_here(self) -> None:
        """From now on GETs are for what this store has itself: it asks none of its peers."""
        self._set_hops(_NO_FURTHER)

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
    def stores(self) -> list[RemoteStore]:
        """The stores that there are: this one."""
        return [self]

    @property
    def connected(self) -> bool:
        """Whether there is a connection that takes requests."""
        return self._wire is not None and self._wire.usable

    @property
    def reconnecting(self) -> bool:
        """Whether there was a connection a moment ago, and it is tried to have it again."""
        return self._connecting is not None and self._again.is_on

    @property
    def owed(self) -> int:
        """How many requests have no answer so far, those that wait for a connection included."""
        return self._again.waiting + (0 if self._wire is None else self._wire.owed)

    async def connect(self) -> None:
        """Connect now, if it is not done yet: tells early whether the store can be reached.

        Raises: StoreUnavailable.
        """
        await self._connected()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`. The request goes out at once."""
        if not self.url.allows("get"):
            return failed(StoreRefused("the URL of this store does not allow get"))
        before, behind = self._get_options[block_size]
        body = before + block_query(reference) + behind
        return self._request(Code.GET, body, reference, int(block_size))

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block: see `eris.store.BlockWriter`. The request goes out at once."""
        if not self.url.allows("put"):
            return failed(StoreRefused("the URL of this store does not allow put"))
        if self.held is not None:
            self.held.add(reference)
        return self._request(Code.PUT, self._put_options + block, reference, 0)

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        """Keep blocks: see `eris.store.ManyWriter`. The requests go out at once."""
        if not self.url.allows("put"):
            return failed(StoreRefused("the URL of this store does not allow put"))
        if self.held is not None:
            self.held.update(reference for reference, _ in blocks)
        lot = Lot(self._put_options, [block for _, block in blocks])
        wire = self._wire
        if wire is not None and wire.usable:
            wire.put_all(lot)
        else:
            self._begin_to_connect()
            self._again.wait(lot.rest())
        return lot.future

    async def find(
        self, references: Sequence[Reference], *, with_peers: bool = False
    ) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`. Some requests at a time.

        `with_peers`: or are where this store would fetch them from.
        """
        if not self.url.allows("get"):
            raise StoreRefused("the URL of this store does not allow get")
        if with_peers:
            return await ask_in_parts(references, self._find_further)
        found = await ask_in_parts(references, self._find)
        self.found += sum(found)
        if self.held is not None:
            self.held.update(compress(references, found))
        return found

    async def taker(self) -> RemoteStore:
        """The store that puts go to: this one, as a `StoreList` has several to choose from."""
        return self

    async def takes_blocks(self) -> bool:
        """Ask whether the store lets us put blocks: with a PUT of nothing, which no store keeps.

        Raises: StoreUnavailable.
        """
        if not self.url.allows("put"):
            return False
        try:
            await self._request(Code.PUT, self._put_options[:-1], b"", 0)
        except UnknownAnswer as error:
            # What it calls wrong is the request, not us: it looked at what it was to keep.
            if error.code >> 5 != 4 or error.code == Code.UNAUTHORIZED:
                raise
        except (StoreFull, RequestMalformed):
            return True
        except StoreRefused:
            return False
        return True

    async def _find_further(self, references: Sequence[Reference]) -> list[bool]:
        options = put_options(self.url.store_path, FULL_HOPS) + b"\xff"
        return await self._find(references, options)

    async def _find(
        self, references: Sequence[Reference], options: bytes | None = None
    ) -> list[bool]:
        body = (options or self._put_options) + b"".join(references)
        answer: bytes | None = await self._request(Code.FETCH, body, b"", 0)
        try:
            return unpack_bitmap(answer or b"", len(references))
        except ValueError as error:
            raise StoreRefused(f"the store does not tell what it has: {error}") from None

    async def stat(self) -> dict[str, Any]:
        """Ask a Kapla daemon what it holds. Raises: StoreError."""
        body = encode_options((OptionNumber.URI_PATH, part.encode()) for part in STAT_PATH)
        payload: bytes | None = await self._request(Code.GET, body, b"", 0)
        return read_report(payload or b"")

    async def list_blocks(self) -> AsyncGenerator[list[Reference], None]:
        """Ask a Kapla daemon for the references of all its blocks, a thousand at a time.

        Raises: NotAllowed, if we are no administrator there; StoreError.
        """

        async def ask(options: bytes) -> bytes:
            payload: bytes | None = await self._request(Code.GET, options, b"", 0)
            return payload or b""

        async with aclosing(list_pages(ask, self.url.store_path)) as pages:
            async for references in pages:
                yield references

    async def ask(
        self, code: int, body: bytes, *, may_be_repeated: bool = False, only_reads: bool = False
    ) -> tuple[int, bytes]:
        """Send any request; returns code and payload of the answer, whatever it is.

        `may_be_repeated`: of a POST, if it does the same when it is done twice. `only_reads`: of
        one, if it changes nothing: a store in a file needs no lock for it.
        Raises: StoreUnavailable.
        """
        wire = await self._connected()
        return await wire.ask(code, body, may_be_repeated=may_be_repeated or only_reads)

    async def close(self) -> None:
        """Fail what is still waiting and close the connection; the next request makes another."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            self._connecting = None
        self._again.fail(StoreUnavailable(f"the connection to {self.url} was closed"))
        wires, self._wire = {*self._leaving, self._wire}, None
        self._leaving.clear()
        for wire in wires:
            if wire is not None:
                await wire.close()

    def _request(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        wire = self._wire
        if wire is not None and wire.usable:
            return wire.request(code, body, reference, size)
        self._begin_to_connect()
        return self._again.hold(code, body, reference, size)

    async def _connected(self) -> Requester:
        while self._wire is None or not self._wire.usable:
            connecting = self._begin_to_connect()
            # One task connects for all; that one of them loses interest does not stop it.
            await asyncio.wait([connecting])
            if connecting.cancelled():
                raise StoreUnavailable(f"the connection to {self.url} was closed")
            if not connecting.result().usable and self._connecting is None:
                raise self._is_lost()
        return self._wire

    def _begin_to_connect(self) -> asyncio.Task[Requester]:
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._again.connect(self._connect))
            self._connecting.add_done_callback(self._connect_ended)
        return self._connecting

    def _connect_ended(self, task: asyncio.Task[Requester]) -> None:
        self._connecting = None
        if task.cancelled():
            self._again.fail(StoreUnavailable(f"the connection to {self.url} was closed"))
        elif error := task.exception():
            self._again.fail(error)
        else:
            self._made(task.result())

    def _made(self, wire: Requester) -> None:
        self._set_wire(wire)
        if wire.usable:
            self._again.resume(wire)
            return
        # It ended in the moment between.
        self._again.lost(has_answered=wire.has_answered, was_released=wire.was_released)
        if self._again.is_on:
            self._begin_to_connect()
        else:
            self._again.fail(self._is_lost())

    def _is_lost(self) -> StoreUnavailable:
        return StoreUnavailable(f"the connection to {self.url} is lost")

    def _lost(self, wire: Requester, requests: list[Asked]) -> list[Asked]:
        """A connection ends; returns what is not asked again on the next one."""
        if wire is not self._wire and wire not in self._leaving:
            # Still being made: whoever makes it tries again, or closed by us.
            return requests
        self._again.lost(has_answered=wire.has_answered, was_released=wire.was_released)
        left = self._again.take(requests)
        if self._again.are_some:
            if self.connected:
                assert self._wire is not None
                self._again.resume(self._wire)
            else:
                self._begin_to_connect()
        return left

    def _set_wire(self, wire: Requester) -> None:
        """Use a new connection; an old one that is owed answers ends when they have come."""
        if self._wire is not None and not self._wire.is_over:
            self._leaving = {old for old in self._leaving if not old.is_over} | {self._wire}
        self._wire = wire

    def _say_waiting(self) -> None:
        on_wait, self._on_wait = self._on_wait, None
        if on_wait is not None:
            on_wait(self.url)

    def _make_requester(self, url: StoreUrl, link: Link) -> Requester:
        return Requester(
            link,
            str(url),
            self._window,
            self._timeout_s,
            greeting_timeout_s=self._connect_timeout_s,
            on_wait=None if self._on_wait is None else self._say_waiting,
            on_lost=self._lost,
        )

    async def _connect(self) -> Requester:
        return await self._connect_to(self.url)

    async def _connect_to(self, url: StoreUrl) -> Requester:
        link = Link(asking=partial(self._make_requester, url))
        assert link.asking is not None
        wire = link.asking
        said = asyncio.get_running_loop().call_later(SAID_AFTER_S, self._say_waiting)
        try:
            await connect(url, lambda: link, self._connect_timeout_s)
        finally:
            said.cancel()
        if self.on_connected is not None:
            try:
                await self.on_connected(wire.ask)
            except BaseException:
                await wire.close()
                raise
        if wire.was_released:
            # Before anything was asked: as where it is restarted, and we were let in last.
            self._again.lost(has_answered=False, was_released=True)
            raise StoreUnavailable(f"{url} is shutting down")
        return wire

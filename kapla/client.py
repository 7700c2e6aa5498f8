"""The store port over the wire: what `kapla` and other programs use to reach a daemon.

One connection, shared by any number of tasks, made when it is first needed. When it is lost every
request on it fails with `StoreUnavailable`, and the next request connects anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from eris.base32 import short
from eris.crypto import reference_of
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize, Reference
from kapla.coap.blocks import (
    MAX_FETCHED,
    STAT_PATH,
    block_query,
    get_options,
    put_options,
    unpack_bitmap,
)
from kapla.coap.frame import Code, OptionNumber, encode_options
from kapla.coap.requester import Requester
from kapla.config import SYSTEM_SOCKET, default_socket
from kapla.errors import CannotConnect, InvalidUrl, StoreSilent
from kapla.urls import StoreUrl, UnixEndpoint, parse_store_url

__all__ = ["RemoteStore", "StoreList", "default_store_urls", "open_store"]

_log = logging.getLogger(__name__)

DEFAULT_WINDOW: Final = 4096
"""Requests in flight at most: a bound for memory. What the link can use is found out."""
_FETCHES_AT_ONCE: Final = 8
DEFAULT_TIMEOUT_S: Final = 60.0
_CONNECT_TIMEOUT_S: Final = 10.0
_TRY_AGAIN_S: Final = 30.0
_TRY_AGAIN_AT_LAST_S: Final = 1800.0
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


class RemoteStore:
    """A store behind a URL. Use as an asynchronous context, or `close()` it.

    `timeout_s`: how long the whole connection may stay silent while requests wait for it; a slow
    store that keeps answering is not cut off.
    """

    def __init__(
        self,
        url: StoreUrl,
        *,
        window: int = DEFAULT_WINDOW,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.url = url
        self._window = window
        self._timeout_s = timeout_s
        self._put_options = put_options(url.store_path) + b"\xff"
        self._get_options = {
            size: get_options(url.store_path, bytes(52), size) for size in BlockSize
        }
        self._get_split = {
            size: options.index(bytes(52)) for size, options in self._get_options.items()
        }
        self._wire: Requester | None = None
        self._connecting: asyncio.Task[Requester] | None = None

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
    def connected(self) -> bool:
        """Whether there is a connection that takes requests."""
        return self._wire is not None and self._wire.usable

    async def connect(self) -> None:
        """Connect now, if it is not done yet: tells early whether the store can be reached.

        Raises: StoreUnavailable.
        """
        await self._connected()

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`. The request goes out at once."""
        if not self.url.allows("get"):
            return _failed(StoreRefused("the URL of this store does not allow get"))
        options = self._get_options[block_size]
        split = self._get_split[block_size]
        body = options[:split] + block_query(reference) + options[split + 52 :]
        return self._request(Code.GET, body, reference, int(block_size))

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block: see `eris.store.BlockWriter`. The request goes out at once."""
        if not self.url.allows("put"):
            return _failed(StoreRefused("the URL of this store does not allow put"))
        return self._request(Code.PUT, self._put_options + block, reference, 0)

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Tell which blocks are there: see `eris.store.BlockFinder`. Some requests at a time."""
        if not self.url.allows("get"):
            raise StoreRefused("the URL of this store does not allow get")
        found: list[bool] = []
        parts = [
            references[start : start + MAX_FETCHED]
            for start in range(0, len(references), MAX_FETCHED)
        ]
        for first in range(0, len(parts), _FETCHES_AT_ONCE):
            asked = parts[first : first + _FETCHES_AT_ONCE]
            for answer in await asyncio.gather(*map(self._find, asked)):
                found += answer
        return found

    async def _find(self, references: Sequence[Reference]) -> list[bool]:
        body = self._put_options + b"".join(references)
        answer: bytes | None = await self._request(Code.FETCH, body, b"", 0)
        try:
            return unpack_bitmap(answer or b"", len(references))
        except ValueError as error:
            raise StoreRefused(f"the store does not tell what it has: {error}") from None

    async def stat(self) -> dict[str, Any]:
        """Ask a Kapla daemon what it holds.

        Raises: StoreError.
        """
        body = encode_options((OptionNumber.URI_PATH, part.encode()) for part in STAT_PATH)
        payload: bytes | None = await self._request(Code.GET, body, b"", 0)
        try:
            report = json.loads(payload or b"")
        except (ValueError, RecursionError):
            report = None
        if not isinstance(report, dict):
            raise StoreUnavailable("the daemon's report makes no sense")
        return report

    async def close(self) -> None:
        """Fail what is still waiting and close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            self._connecting = None
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.close()

    def _request(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        wire = self._wire
        if wire is not None and wire.usable:
            return wire.request(code, body, reference, size)
        return asyncio.ensure_future(self._request_when_connected(code, body, reference, size))

    async def _request_when_connected(
        self, code: int, body: bytes, reference: bytes, size: int
    ) -> Any:
        wire = await self._connected()
        return await wire.request(code, body, reference, size)

    async def _connected(self) -> Requester:
        if self._wire is not None and self._wire.usable:
            return self._wire
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connect_ended)
        connecting = self._connecting
        # One task connects for all; that one of them loses interest does not stop it.
        await asyncio.wait([connecting])
        if connecting.cancelled():
            raise StoreUnavailable(f"the connection to {self.url} was closed")
        return connecting.result()

    def _connect_ended(self, task: asyncio.Task[Requester]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._wire = task.result()

    async def _connect(self) -> Requester:
        loop = asyncio.get_running_loop()
        wire = Requester(str(self.url), self._window, self._timeout_s)
        endpoint = self.url.endpoint
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if isinstance(endpoint, UnixEndpoint):
                    await loop.create_unix_connection(lambda: wire, str(endpoint.path))
                else:
                    await loop.create_connection(lambda: wire, endpoint.host, endpoint.port)
        except TimeoutError:
            raise StoreUnavailable(f"no connection to {self.url} in time") from None
        except (OSError, UnicodeError) as error:  # a host name can be impossible to encode
            socket = endpoint.path if isinstance(endpoint, UnixEndpoint) else None
            number, reason = _reason(error)
            raise CannotConnect(str(self.url), reason, number=number, socket=socket) from error
        return wire


def _reason(error: OSError | UnicodeError) -> tuple[int | None, str]:
    """Why a connection was not made, without the addresses that asyncio puts in."""
    number = getattr(error, "errno", None)
    # Of several addresses asyncio tells all that happened in one text.
    numbers = {number} if number else {int(one) for one in _ERRNO.findall(str(error))}
    if not numbers or min(numbers) <= 0:  # a resolver has numbers of its own
        return None, getattr(error, "strerror", None) or str(error)
    reasons = sorted(os.strerror(one) for one in numbers)
    return numbers.pop() if len(numbers) == 1 else None, ", ".join(reasons)


def _failed(error: ErisError) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


class StoreList:
    """Several stores as one: PUT goes to the first that can be reached, GET asks each in order."""

    def __init__(self, stores: Sequence[RemoteStore]) -> None:
        if not stores:
            raise ValueError("no store")
        self._stores = tuple(stores)
        # Not asked again before this time of the event loop, and how long that was: a host that
        # swallows what is sent to it would cost a time-out for every block.
        self._absent_until: dict[RemoteStore, float] = {}
        self._pauses: dict[RemoteStore, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        for store in self._stores:
            await store.close()

    async def connect(self) -> None:
        """Connect to all stores now, all at once, those that can be reached.

        Raises: StoreUnavailable, if none can.
        """
        tried = (self._connect(store) for store in self._stores)
        failures = await asyncio.gather(*tried, return_exceptions=True)
        if all(failures):
            assert failures[0] is not None
            raise failures[0]

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block from the first store that has it.

        When none has it but one could not be asked, that one's error is raised: it may have it.
        """
        return self._get(reference, block_size)

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        failure: ErisError | None = None
        for store in self._stores:
            if not store.url.allows("get"):
                continue
            try:
                await self._connect(store)
                block = await store.get(reference, block_size)
                # Whoever decodes checks too, but can no longer ask the next store.
                if reference_of(block) != reference:
                    raise CorruptBlock(reference)
                self._pauses.pop(store, None)
                return block
            except BlockNotFound as error:
                failure = failure or error
            except (StoreError, CorruptBlock) as error:
                _log.debug("Block %s from %s: %s", short(reference), store.url, error)
                failure = error
                if isinstance(error, StoreSilent):
                    self._set_aside(store)
        raise failure or StoreRefused("no store in the list allows get")

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block in the first store that can be reached and whose URL allows it."""
        await (await self._reachable("put")).put(reference, block)

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Ask the store that puts go to which blocks it has: the others' do not count."""
        return await (await self._reachable("put")).find(references)

    async def stat(self) -> dict[str, Any]:
        """Ask the first store that can be reached what it holds."""
        return await (await self._reachable()).stat()

    async def _reachable(self, right: str | None = None) -> RemoteStore:
        """The first store that can be reached, of those whose URL allows `right`."""
        failure: StoreError | None = None
        for store in self._stores:
            if right is not None and not store.url.allows(right):
                failure = failure or StoreRefused(f"no store in the list allows {right}")
                continue
            try:
                await self._connect(store)
            except StoreUnavailable as error:
                failure = error
                continue
            return store
        assert failure is not None
        raise failure

    async def _connect(self, store: RemoteStore) -> None:
        """Connect, unless that was tried in vain a moment ago.

        Raises: StoreUnavailable.
        """
        now = asyncio.get_running_loop().time()
        if now < self._absent_until.get(store, 0.0):
            raise StoreUnavailable(f"{store.url} did not answer a moment ago")
        if store.connected:
            return
        try:
            await store.connect()
        except StoreUnavailable:
            self._set_aside(store)
            raise

    def _set_aside(self, store: RemoteStore) -> None:
        """Leave a store alone for a while, and longer each time: each try may cost a time-out."""
        now = asyncio.get_running_loop().time()
        if now >= self._absent_until.get(store, 0.0):
            pause = min(2 * self._pauses.get(store, _TRY_AGAIN_S / 2), _TRY_AGAIN_AT_LAST_S)
            self._pauses[store] = pause
            self._absent_until[store] = now + pause


def default_store_urls(text: str | None = None) -> list[StoreUrl]:
    """The stores to use: `text` (space-separated URLs), else $ERIS_STORE_URL, else a local socket.

    The user's socket if it is there, else the system's.
    Raises: InvalidUrl.
    """
    given = text or os.environ.get("ERIS_STORE_URL", "").strip()
    if given:
        urls = []
        texts = given.split()
        for number, one in enumerate(texts, 1):
            try:
                urls.append(parse_store_url(one))
            except InvalidUrl as error:
                which = f"store URL {number}" if len(texts) > 1 else "store URL"
                raise InvalidUrl(f"{which}: {error}") from None
        if not urls:
            raise InvalidUrl("the list of store URLs is empty")
        return urls
    own = default_socket(os.environ)
    # Not `Path.exists`, which raises where the directory may not be searched, as after `su`.
    use_system = not os.path.exists(own) and os.path.exists(SYSTEM_SOCKET)
    path = SYSTEM_SOCKET if use_system else own
    return [parse_store_url(f"coap+unix://{quote(os.fsencode(path))}")]


def open_store(
    urls: Iterable[StoreUrl], *, window: int = DEFAULT_WINDOW
) -> StoreList | RemoteStore:
    """A store over one URL, or over several as one. Nothing is connected yet."""
    stores = [RemoteStore(url, window=window) for url in urls]
    return stores[0] if len(stores) == 1 else StoreList(stores)

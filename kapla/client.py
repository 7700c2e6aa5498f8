"""The store port over the wire: what `kapla` and other programs use to reach a daemon.

One connection, shared by any number of tasks. A request is written into the next piece of output
the moment it is made, without waiting for others, and is known by its token until its answer comes;
tokens are never reused while an answer may still come, so a cancelled request disturbs nobody. At
most `window` requests are on the wire; more wait here, in order. When the connection is lost every
request on it fails with `StoreUnavailable`, and the next request connects anew.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast

from eris.base32 import short
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize, Reference
from kapla.coap.blocks import block_query, error_of_code, get_options, put_options
from kapla.coap.connection import Connection, is_request
from kapla.coap.frame import (
    Code,
    Frame,
    MalformedMessage,
    OptionNumber,
    encode_options,
    format_header,
    format_message,
    parse_body,
)
from kapla.config import default_socket
from kapla.errors import InvalidUrl
from kapla.urls import StoreUrl, UnixEndpoint, parse_store_url

__all__ = ["RemoteStore", "StoreList", "default_store_urls", "open_store"]

_log = logging.getLogger(__name__)

DEFAULT_WINDOW: Final = 64
DEFAULT_TIMEOUT_S: Final = 60.0
_CONNECT_TIMEOUT_S: Final = 10.0
_SYSTEM_SOCKET: Final = "/run/eris.sock"
_STAT_PATH: Final = ("kapla", "stat")


class _Pending(NamedTuple):
    """A request that is not answered yet."""

    future: asyncio.Future[Any]
    reference: bytes
    size: int
    """The size of the block that is wanted; 0 for other requests."""


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
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

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

    async def stat(self) -> dict[str, Any]:
        """Ask a Kapla daemon what it holds.

        Raises: StoreError.
        """
        body = encode_options((OptionNumber.URI_PATH, part.encode()) for part in _STAT_PATH)
        payload: bytes = await self._request(Code.GET, body, b"", 0)
        try:
            report = json.loads(payload)
        except ValueError:
            raise StoreUnavailable("the daemon's report makes no sense") from None
        return cast(dict[str, Any], report)

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

    async def _connected(self) -> _Wire:
        if self._wire is not None and self._wire.usable:
            return self._wire
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connect_ended)
        # One task connects for all; that one of them loses interest does not stop it.
        return await asyncio.shield(self._connecting)

    def _connect_ended(self, task: asyncio.Task[_Wire]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._wire = task.result()

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        wire = _Wire(str(self.url), self._window, self._timeout_s)
        endpoint = self.url.endpoint
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if isinstance(endpoint, UnixEndpoint):
                    await loop.create_unix_connection(lambda: wire, str(endpoint.path))
                else:
                    await loop.create_connection(lambda: wire, endpoint.host, endpoint.port)
        except TimeoutError:
            raise StoreUnavailable(f"no connection to {self.url} in time") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreUnavailable(f"cannot connect to {self.url}: {reason}") from error
        return wire


class _Wire(asyncio.Protocol):
    """One connection to a store."""

    def __init__(self, name: str, window: int, timeout_s: float) -> None:
        self.usable = True
        self._name = name
        self._window = window
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._connection = Connection()
        self._transport: asyncio.Transport | None = None
        self._tokens = itertools.count()
        self._pending: dict[bytes, _Pending] = {}
        self._queue: deque[tuple[int, bytes, _Pending]] = deque()
        self._output: list[bytes] = []
        self._writable = True
        self._flush_planned = False
        self._heard = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    def request(self, code: int, body: bytes, reference: bytes, size: int) -> asyncio.Future[Any]:
        """Send a request; the future gets the payload of a good answer, or the error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.usable:
            future.set_exception(StoreUnavailable(f"the connection to {self._name} is lost"))
            return future
        pending = _Pending(future, reference, size)
        if len(self._pending) < self._window and self._writable and not self._queue:
            self._send(code, body, pending)
        else:
            self._queue.append((code, body, pending))
        return future

    async def close(self) -> None:
        """Release the connection."""
        self._fail(StoreUnavailable(f"the connection to {self._name} was closed"))
        if self._transport is not None and not self._transport.is_closing():
            self._connection.release()
            self._transport.write(self._connection.take_output())
            self._transport.close()
            await self._closed

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._connection.take_output())
        self._watch = self._loop.call_later(self._timeout_s, self._look)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        for frame in self._connection.receive(data):
            self._take(frame)
        if self._connection.has_output and self._transport is not None:
            self._transport.write(self._connection.take_output())
        if self._connection.closing is not None:
            self._lose(f"{self._name}: {self._connection.closing.reason}")
        elif self._queue:
            self._send_queued()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_queued()

    def connection_lost(self, error: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        reason = f": {error}" if error else ""
        self._lose(f"the connection to {self._name} is lost{reason}")
        self._transport = None
        if not self._closed.done():
            self._closed.set_result(None)

    # requests

    def _send(self, code: int, body: bytes, pending: _Pending) -> None:
        if not self._pending:
            # Silence counts from when an answer is owed.
            self._heard = self._loop.time()
        token = next(self._tokens).to_bytes(4, "big")
        self._pending[token] = pending
        self._output.append(format_header(code, 4, len(body)))
        self._output.append(token)
        self._output.append(body)
        if not self._flush_planned:
            # At the end of this turn of the loop, with whatever else was asked in it.
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _send_queued(self) -> None:
        while self._queue and self._writable and len(self._pending) < self._window:
            code, body, pending = self._queue.popleft()
            if not pending.future.done():  # cancelled while it waited
                self._send(code, body, pending)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._transport is not None and self._output:
            self._transport.writelines(self._output)
        self._output.clear()

    def _take(self, frame: Frame) -> None:
        code, token, buffer, start, stop = frame
        if is_request(code):
            # Some servers ask their clients for blocks; this one has none to give.
            self._connection.reply(format_message(Code.NOT_FOUND, token))
            return
        pending = self._pending.pop(token, None)
        if pending is None or pending.future.done():
            return
        # A block without options in front is what nearly every answer is.
        if code == Code.CONTENT and pending.size == stop - start - 1 and buffer[start] == 0xFF:
            pending.future.set_result(buffer[start + 1 : stop])
            return
        result = _outcome(code, pending, buffer, start, stop)
        if isinstance(result, ErisError):
            pending.future.set_exception(result)
        else:
            pending.future.set_result(result)

    def _lose(self, reason: str) -> None:
        self._fail(StoreUnavailable(reason))
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def _fail(self, error: StoreUnavailable) -> None:
        self.usable = False
        waiting = [*self._pending.values(), *(pending for _, _, pending in self._queue)]
        self._pending.clear()
        self._queue.clear()
        for pending in waiting:
            if not pending.future.done():
                pending.future.set_exception(StoreUnavailable(str(error)))

    def _look(self) -> None:
        """Whether the store has been silent too long while an answer is owed."""
        silent_s = self._loop.time() - self._heard if self._pending else 0.0
        if silent_s >= self._timeout_s:
            self._lose(f"{self._name} did not answer for {silent_s:.0f} s")
            if self._transport is not None:
                self._transport.abort()
        else:
            self._watch = self._loop.call_later(self._timeout_s - silent_s, self._look)


def _outcome(code: int, pending: _Pending, buffer: bytes, start: int, stop: int) -> Any:
    """What a response that is not a plain block means: a result, or an error."""
    try:
        options, payload = parse_body(buffer, start, stop)
    except MalformedMessage as error:
        return StoreUnavailable(f"the store sent a malformed answer: {error}")
    if code == Code.CONTENT:
        if any(number == OptionNumber.BLOCK2 for number, _ in options):
            return StoreUnavailable("the store sent an answer in pieces, though it was told not to")
        if pending.size and len(payload) != pending.size:
            return CorruptBlock(pending.reference, size=len(payload), expected_size=pending.size)
        return payload
    if Code.CREATED <= code < Code.BAD_REQUEST:
        return None
    return error_of_code(code, pending.reference, payload)


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

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block from the first store that has it.

        When none has it but one could not be asked, that one's error is raised: it may have it.
        """
        return self._get(reference, block_size)

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        failure: ErisError | None = None
        for store in self._stores:
            try:
                return await store.get(reference, block_size)
            except BlockNotFound as error:
                failure = failure or error
            except (StoreError, CorruptBlock) as error:
                _log.debug("Block %s from %s: %s", short(reference), store.url, error)
                failure = error
        assert failure is not None
        raise failure

    async def put(self, reference: Reference, block: bytes) -> None:
        """Keep a block in the first store that can be reached and takes blocks."""
        failure: StoreError | None = None
        for store in self._stores:
            if not store.url.allows("put"):
                failure = failure or StoreRefused("no store in the list allows put")
                continue
            try:
                await store.connect()
            except StoreUnavailable as error:
                failure = error
                continue
            await store.put(reference, block)
            return
        assert failure is not None
        raise failure

    async def stat(self) -> dict[str, Any]:
        """Ask the first store that can be reached what it holds."""
        failure: StoreError | None = None
        for store in self._stores:
            try:
                await store.connect()
            except StoreUnavailable as error:
                failure = error
                continue
            return await store.stat()
        assert failure is not None
        raise failure


def default_store_urls(text: str | None = None) -> list[StoreUrl]:
    """The stores to use: `text` (space-separated URLs), else $ERIS_STORE_URL, else a local socket.

    The user's socket if it is there, else the system's.
    Raises: InvalidUrl.
    """
    given = text or os.environ.get("ERIS_STORE_URL", "").strip()
    if given:
        urls = []
        for number, one in enumerate(given.split(), 1):
            try:
                urls.append(parse_store_url(one))
            except InvalidUrl as error:
                raise InvalidUrl(f"store URL {number}: {error}") from None
        if not urls:
            raise InvalidUrl("the list of store URLs is empty")
        return urls
    own = default_socket(os.environ)
    path = str(own) if own.exists() else _SYSTEM_SOCKET if os.path.exists(_SYSTEM_SOCKET) else own
    return [parse_store_url(f"coap+unix://{path}")]


def open_store(
    urls: Iterable[StoreUrl], *, window: int = DEFAULT_WINDOW
) -> StoreList | RemoteStore:
    """A store over one URL, or over several as one. Nothing is connected yet."""
    stores = [RemoteStore(url, window=window) for url in urls]
    return stores[0] if len(stores) == 1 else StoreList(stores)

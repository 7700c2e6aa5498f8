"""A Guix daemon to talk to: the worker protocol over a socket.

There is one connection, made when it is first needed, and one request on it at a time; others wait.
A connection that was idle may have been closed by a daemon that was started anew: then the request,
all of which may be repeated, is made once more on a new one. Whatever leaves it unclear where the
dialogue stands (an error of the protocol, a timeout, a cancellation) closes the connection.

The timeouts are for silence: a daemon that is busy, and says so, may take as long as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar, assert_never, cast

from guix_glue.errors import DaemonError
from guix_glue.local.daemon_address import (
    DaemonAddress,
    TcpAddress,
    UnixAddress,
    parse_daemon_address,
)
from guix_glue.local.worker_protocol import Answer, Failure, Ready, WantsData, WorkerClient
from guix_glue.local.worker_requests import Request

__all__ = ["GuixDaemon"]

T = TypeVar("T")

Source: TypeAlias = Callable[[int], Awaitable[bytes]]
"""Gives up to so many bytes of what a request is about, and none at the end."""

CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 60.0

_READ_SIZE: Final = 64 * 1024


class GuixDaemon:
    """A client of the daemon at `address` (see `parse_daemon_address`). Close it, or use `with`.

    Raises, when made: DaemonError, if the address cannot be used.
    """

    def __init__(self, address: str, *, silence_timeout_s: float = SILENCE_TIMEOUT_S) -> None:
        self.address = parse_daemon_address(address)
        self._silence_timeout_s = silence_timeout_s
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None

    async def call(self, request: Request[T]) -> T:
        """Make a request; gives its result.

        Raises: DaemonError, with a status if the daemon refused or failed, without one if it
        cannot be reached or went away; ProtocolError.
        """
        return await self.feed(request, _nothing)

    async def feed(self, request: Request[T], source: Source) -> T:
        """Make a request that takes data, which `source` gives piece by piece; gives its result.

        Raises: as `call`; whatever the source raises, and the connection is closed then.
        """
        async with self._lock:
            if self._connection is not None and not self._connection.lost:
                try:
                    return await self._call(self._connection, request, source)
                except _ConnectionLost as error:
                    if error.answer_begun:
                        raise
            self._drop()
            self._connection = connection = await self._connect()
            return await self._call(connection, request, source)

    async def close(self) -> None:
        """Close the connection, if there is one; the next request would make another."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, connection: _Connection, request: Request[T], source: Source) -> T:
        """Make the request on this connection, which is dropped unless all went by the rules."""
        try:
            connection.client.request(request)
            result = await connection.converse(self._silence_timeout_s, source)
        except BaseException:
            self._drop()
            raise
        match result:
            case Answer(value):
                # A request's answer is what the request's own reader made.
                return cast(T, value)
            case Failure(message, status):
                raise DaemonError(message, status)
            case Ready():
                raise AssertionError("the handshake was over before")
            case _:
                assert_never(result)

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await _open(self.address)
        except TimeoutError as error:
            raise _unreachable(self.address, "no answer") from error
        # A name that cannot be looked up may be a UnicodeError.
        except (OSError, UnicodeError) as error:
            raise _unreachable(self.address, getattr(error, "strerror", None) or error) from error
        connection = _Connection(self.address, reader, writer, WorkerClient())
        try:
            greeting = await connection.converse(CONNECT_TIMEOUT_S, _nothing)
            if isinstance(greeting, Failure):
                raise DaemonError(greeting.message, greeting.status)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


class _ConnectionLost(DaemonError):
    """The daemon went away; `answer_begun` if it had said something to the request."""

    def __init__(self, address: DaemonAddress, answer_begun: bool) -> None:
        super().__init__(f"the Guix daemon at {address} has closed the connection")
        self.answer_begun = answer_begun


class _Silence(Exception):
    """The daemon says nothing."""


class _Lost(Exception):
    """The socket failed."""


class _Connection:
    """A socket and the state of the dialogue on it."""

    def __init__(
        self,
        address: DaemonAddress,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: WorkerClient,
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self.client = client

    @property
    def lost(self) -> bool:
        """Whether the daemon is known to have closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def converse(self, silence_s: float, source: Source) -> Ready | Answer | Failure:
        """Send what is to be sent and read on to the end of what was begun.

        Raises: DaemonError; ProtocolError; what the source raises.
        """
        begun = False
        try:
            while True:
                data = await self._send_and_read(silence_s)
                if not data:
                    raise _ConnectionLost(self._address, begun)
                begun = True
                event = self.client.receive(data)
                if isinstance(event, WantsData):
                    self.client.provide(await source(event.size))
                elif event is not None:
                    return event
        except _Silence as error:
            raise DaemonError(
                f"the Guix daemon at {self._address} said nothing for {silence_s:.0f} s"
            ) from error
        except _Lost as error:
            raise _ConnectionLost(self._address, begun) from error.__cause__

    async def _send_and_read(self, silence_s: float) -> bytes:
        try:
            async with asyncio.timeout(silence_s):
                data = self.client.data_to_send()
                if data:
                    self._writer.write(data)
                    await self._writer.drain()
                return await self._reader.read(_READ_SIZE)
        # Told apart from what a source raises: a timeout is an OSError, too.
        except TimeoutError as error:
            raise _Silence from error
        except OSError as error:
            raise _Lost from error

    async def close(self) -> None:
        """Close it and wait until that is done."""
        self._writer.close()
        # It may be lost already.
        with suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()


async def _nothing(_: int) -> bytes:
    """What no request is about that takes no data."""
    return b""


async def _open(address: DaemonAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    match address:
        case UnixAddress(path):
            return await asyncio.open_unix_connection(path)
        case TcpAddress(host, port):
            return await asyncio.open_connection(host, port)
        case _:
            assert_never(address)


def _unreachable(address: DaemonAddress, reason: object) -> DaemonError:
    return DaemonError(f"cannot reach the Guix daemon at {address}: {reason}")

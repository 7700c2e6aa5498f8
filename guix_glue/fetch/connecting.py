"""A connection to a server, or to the proxy that leads there.

A server of http is asked by a proxy with whole URLs, so that the proxy itself is connected to. For
one of https the proxy makes a tunnel (CONNECT), in which TLS is with the server: the proxy sees its
name and nothing else.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from typing import Final

import aiohappyeyeballs

from guix_glue.errors import FetchFailed, NoConnection
from guix_glue.servers.failures import status_failure, system_words
from guix_glue.servers.proxies import Proxy
from guix_glue.servers.url import Origin

__all__ = ["Route", "Streams"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_BUFFER: Final = 256 * 1024
# RFC 8305: until the next address of a host is tried as well, since one family may lead nowhere.
_NEXT_ADDRESS_S: Final = 0.25
_MAX_HEAD: Final = 64 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class Route:
    """The way to a server: directly, or by a proxy."""

    def __init__(self, origin: Origin, proxy: Proxy | None = None) -> None:
        self._origin = origin
        self.proxy = proxy
        self._tls: ssl.SSLContext | None = None

    @property
    def asks_proxy(self) -> bool:
        """Whether it is the proxy that requests go to, and not a server behind it."""
        return self.proxy is not None and self._origin.scheme == "http"

    async def open(self, timeout_s: float) -> Streams:
        """Connect within a time.

        Raises: FetchFailed; NoConnection, where there is no connection at all.
        """
        who = "" if self.proxy is None else f"{self.proxy.shown}: "
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open()
        except TimeoutError:
            raise NoConnection(f"{who}no connection in time") from None
        except OSError as error:
            raise _failure(error, who) from None
        except ValueError:
            # Python encodes names before it looks them up.
            raise FetchFailed(f"{who}its name cannot be looked up") from None

    async def _open(self) -> Streams:
        if self.proxy is None:
            return await self._connect(self._origin)
        if self.asks_proxy:
            return await self._connect(self.proxy.origin)
        return await self._tunnel(self.proxy)

    async def _connect(self, origin: Origin) -> Streams:
        return await asyncio.open_connection(
            sock=await _socket(origin),
            limit=_BUFFER,
            ssl=self._context(origin),
            server_hostname=_tls_name(origin),
        )

    async def _tunnel(self, proxy: Proxy) -> Streams:
        transport, reply = await asyncio.get_running_loop().create_connection(
            lambda: _Reply(proxy),
            sock=await _socket(proxy.origin),
            ssl=self._context(proxy.origin),
            server_hostname=_tls_name(proxy.origin),
        )
        try:
            transport.write(_connect_request(self._origin, proxy))
            _check_reply(await reply.head, proxy)
            return await self._secure(transport)
        except BaseException:
            transport.abort()
            raise

    async def _secure(self, transport: asyncio.Transport) -> Streams:
        """TLS with the server, through the tunnel."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_BUFFER, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        context = self._context(self._origin)
        assert context is not None
        try:
            inner = await loop.start_tls(
                transport, protocol, context, server_hostname=_tls_name(self._origin)
            )
        except OSError as error:
            raise _failure(error) from None
        assert inner is not None
        # `start_tls` tells it to nobody.
        protocol.connection_made(inner)
        return reader, asyncio.StreamWriter(inner, protocol, reader, loop)

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        """For a new connection; reading all the authorities takes a while."""
        if origin.scheme != "https":
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


async def _socket(origin: Origin) -> socket.socket:
    """Connect to the address of a host that answers first."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return await aiohappyeyeballs.start_connection(
        found, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1
    )


def _tls_name(origin: Origin) -> str | None:
    """What a certificate has to be for: it never ends in a dot."""
    return origin.name.removesuffix(".") if origin.scheme == "https" else None


def _failure(error: OSError, who: str = "") -> FetchFailed:
    kind = FetchFailed if isinstance(error, ssl.SSLError) else NoConnection
    return kind(who + system_words(error))


def _connect_request(origin: Origin, proxy: Proxy) -> bytes:
    host = f"[{origin.name}]" if ":" in origin.name else origin.name
    lines = [f"CONNECT {host}:{origin.port} HTTP/1.1", f"Host: {host}:{origin.port}"]
    lines.append("User-Agent: kapla")
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def _check_reply(head: bytes, proxy: Proxy) -> None:
    match = _STATUS.match(head)
    if match is None:
        raise FetchFailed(f"{proxy.shown} answers with what is no HTTP")
    if not 200 <= int(match[1]) < 300:
        raise status_failure(int(match[1]), "", proxy, tunnel=True)


class _Reply(asyncio.Protocol):
    """What a proxy answers to CONNECT: a head, and nothing more before TLS begins."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Some of the head."""
        self._data += data
        head, found, _ = self._data.partition(b"\r\n\r\n")
        if len(head) > _MAX_HEAD:
            self._end(FetchFailed(f"{self._proxy.shown} answers with too much"))
        elif found and not self.head.done():
            self.head.set_result(head + found)

    def connection_lost(self, error: Exception | None) -> None:
        """The proxy has closed."""
        self._end(error or ConnectionResetError("closed"))

    def _end(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)
            # Whoever waited may have given up.
            self.head.exception()

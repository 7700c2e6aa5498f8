"""A server in this process, on a clock that can be put forward, and raw clients of it."""

from __future__ import annotations

import asyncio
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from guix_glue.formats.compression import Compression
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.site import Site
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import bind_sockets
from guix_glue.serving.reply import NAR_TYPE, OCTETS_TYPE, FileBody, Reply, StreamBody
from kapla.http.serving.connections import ConnectionLimits
from tests.guix_glue.publish.fakes import HASH, NAME, Echo

__all__ = ["FILE", "NEVER", "REQUEST", "SLOW", "STREAM", "Bodies", "Client", "SlowEcho", "serving"]

REQUEST = b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = f"GET /{HASH}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
STREAM = f"GET /nar/{NAME} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
FILE = f"GET /nar/gzip/{NAME} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
NEVER = 1e9

_PIECE = 64 * 1024


class SlowEcho(Echo):
    """A source that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def narinfo(self, hash_part: str) -> Reply | None:
        self.asked.set()
        await self.go_on.wait()
        return await super().narinfo(hash_part)


class Bodies(SlowEcho):
    """A source of large bodies that knows which of them are open; narinfos are slow."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.open_streams = 0
        self.made = 0
        self.files: list[BinaryIO] = []

    @property
    def open_bodies(self) -> int:
        """How many have not been closed."""
        return self.open_streams + sum(not file.closed for file in self.files)

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        if method is Compression.NONE:
            return Reply(200, NAR_TYPE, StreamBody(self._stream, self.size))
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
        file.truncate(self.size)
        self.files.append(file)
        return Reply(200, OCTETS_TYPE, FileBody(file, self.size), tag="tag")

    def _stream(self) -> Generator[bytes, None, None]:
        self.open_streams += 1
        try:
            for start in range(0, self.size, _PIECE):
                piece = bytes(min(_PIECE, self.size - start))
                self.made += len(piece)
                yield piece
        finally:
            self.open_streams -= 1


class Client:
    """A connection whose kernel takes in little for it, so that what is not read is not taken."""

    def __init__(self, connection: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.socket = connection
        self.pace: Callable[[], Awaitable[None]] | None = None
        """What is waited for before each read."""
        self.received = 0
        self._read = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self._loop.sock_sendall(self.socket, data)

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """Send a request and read its reply, head and body."""
        await self.send(request)
        return await self.reply()

    async def reply(self) -> bytes:
        """Read the head of a reply, and its body."""
        while b"\r\n\r\n" not in self._read:
            await self.more()
        head, _, _ = bytes(self._read).partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        while len(self._read) < len(head) + 4 + length:
            await self.more()
        reply = bytes(self._read[: len(head) + 4 + length])
        del self._read[: len(reply)]
        return reply

    async def more(self, size: int = 1 << 16) -> None:
        """Read something."""
        if self.pace is not None:
            await self.pace()
        data = await self._loop.sock_recv(self.socket, size)
        if not data:
            raise EOFError(bytes(self._read[:100]))
        self._read += data
        self.received += len(data)

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        with suppress(EOFError, ConnectionResetError):
            while True:
                await self.more()
        return bytes(self._read)

    async def ended(self) -> bool:
        """Wait until the server has closed the connection, without another reply."""
        try:
            return await self._loop.sock_recv(self.socket, 1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Go away."""
        self.socket.close()

    def reset(self) -> None:
        """Go away without a farewell."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


class Connect:
    """Connects to a server."""

    def __init__(self, family: int, address: Any) -> None:
        self._family = family
        self._address = address
        self.clients: list[Client] = []

    async def __call__(self, *requests: bytes) -> Client:
        """A new client, which has sent these requests."""
        connection = socket.socket(self._family)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await asyncio.get_running_loop().sock_connect(connection, self._address)
        client = Client(connection)
        self.clients.append(client)
        await client.send(b"".join(requests))
        return client


@asynccontextmanager
async def serving(
    limits: ConnectionLimits,
    source: Echo,
    path: Path | None = None,
) -> AsyncIterator[Connect]:
    """A server with these limits, on TCP or at the path of a Unix socket; gives what connects."""
    if path is None:
        (listening,) = bind_sockets("127.0.0.1", 0)
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
    connect = Connect(listening.family, listening.getsockname())
    site = Site(source, PublishOptions("/gnu/store", ()), public_key=None, eris=False)
    server = HttpServer(site, limits)
    await server.start([listening])
    try:
        yield connect
    finally:
        for client in connect.clients:
            client.close()
        await server.stop()

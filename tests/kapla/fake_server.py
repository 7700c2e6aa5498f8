"""A server for the tests of the client: it answers as a script says, sense or nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from eris import reference_of
from eris.base32 import parse_base32
from eris.model import Reference
from kapla.coap.frame import Code, FrameReader, Message, format_message, parse_body
from kapla.remote_store import RemoteStore
from kapla.urls import StoreUrl, parse_store_url

__all__ = ["FakeServer", "Peer", "Script", "fake_server", "keep_blocks", "until_lost"]

CSM = format_message(Code.CSM, options=[(2, b"\x10\x00\x00"), (4, b"")])

Script = Callable[["Peer", Message], None]


class Peer(asyncio.Protocol):
    """One client's connection, as the server sees it."""

    def __init__(self, server: FakeServer) -> None:
        self.requests: list[Message] = []
        """The requests of this client."""
        self.others: list[Message] = []
        """Its signals and its responses."""
        self.transport: asyncio.Transport
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._reader = FrameReader(1 << 24)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.peers.append(self)
        transport.write(self._server.greeting)

    def data_received(self, data: bytes) -> None:
        for code, token, buffer, start, stop in self._reader.feed(data):
            options, payload = parse_body(buffer, start, stop)
            message = Message(code, token, options, payload)
            if 0 < code < 0x40:
                self.requests.append(message)
                self._server.script(self, message)
            else:
                self.others.append(message)
            self._server.heard.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)
        self._server.heard.set()

    def send(
        self,
        code: int,
        token: bytes = b"",
        options: Iterable[tuple[int, bytes]] = (),
        payload: bytes = b"",
    ) -> None:
        """Send a well-formed message."""
        self.transport.write(format_message(code, token, options, payload))


class FakeServer:
    """All connections of one server. `script` is called with each request."""

    def __init__(self, script: Script, greeting: bytes) -> None:
        self.script = script
        self.greeting = greeting
        self.peers: list[Peer] = []
        self.heard = asyncio.Event()
        self.url: StoreUrl
        self.port = 0
        self.close: Callable[[], None]
        """Take no more connections."""

    @property
    def requests(self) -> list[Message]:
        """The requests of all connections."""
        return [request for peer in self.peers for request in peer.requests]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was heard makes `condition` true."""
        while not condition():
            self.heard.clear()
            await self.heard.wait()

    async def until_requests(self, count: int) -> None:
        """Wait for so many requests, of all connections together."""
        await self.until(lambda: len(self.requests) >= count)


@asynccontextmanager
async def fake_server(
    script: Script,
    *,
    greeting: bytes = CSM,
    path: str = "",
    flags: str = "",
    socket: Path | None = None,
) -> AsyncIterator[FakeServer]:
    """A server on a free port of the loopback, or a Unix socket, and the URL of its store."""
    server = FakeServer(script, greeting)
    loop = asyncio.get_running_loop()
    if socket is None:
        listening = await loop.create_server(lambda: Peer(server), "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        server.url = parse_store_url(f"coap+tcp://127.0.0.1:{server.port}{path}{flags}")
    else:
        listening = await loop.create_unix_server(lambda: Peer(server), socket)
        server.url = parse_store_url(f"coap+unix://{socket}{flags}")
    server.close = listening.close
    try:
        yield server
    finally:
        listening.close()
        for peer in server.peers:
            peer.transport.abort()


async def until_lost(store: RemoteStore) -> None:
    """Wait until a client knows that its connection takes no more requests."""
    while store.connected:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)


def keep_blocks(blocks: Iterable[bytes] = ()) -> Script:
    """A script that behaves."""
    kept: dict[Reference, bytes] = {reference_of(block): block for block in blocks}

    def script(peer: Peer, request: Message) -> None:
        if request.code == Code.PUT:
            kept[reference_of(request.payload)] = request.payload
            peer.send(Code.CREATED, request.token)
            return
        if request.code == Code.FETCH:
            # As most programs: only Kapla knows that.
            peer.send(Code.METHOD_NOT_ALLOWED, request.token)
            return
        block = kept.get(Reference(parse_base32(request.values(15)[0])))
        if block is None:
            peer.send(Code.NOT_FOUND, request.token)
        else:
            peer.send(Code.CONTENT, request.token, payload=block)

    return script

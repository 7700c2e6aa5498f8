"""What clients may take: connections, and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from guix_glue.publish.connections import ConnectionLimits
from guix_glue.publish.http_server import HttpServer
from guix_glue.publish.listening import bind_sockets
from guix_glue.publish.model import PublishOptions, Reply
from guix_glue.publish.site import Site
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.publish.fakes import HASH, Echo

REQUEST = b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = f"GET /{HASH}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
SOON = 30.0
NEVER = 1e9


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


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """Send a request and read the head of its reply, and its body."""
        self.writer.write(request)
        return await self.reply()

    async def reply(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return head + await self._reader.readexactly(length)

    async def ended(self) -> bool:
        """Wait until the server has closed the connection, without another reply."""
        try:
            return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True


Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def serving(limits: ConnectionLimits, source: Echo) -> AsyncIterator[Connect]:
    """A server with these limits; gives what connects to it."""
    (listening,) = bind_sockets("127.0.0.1", 0)
    address = listening.getsockname()
    site = Site(source, PublishOptions("/gnu/store", ()), public_key=None, eris=False)
    server = HttpServer(site, limits)
    clients: list[Client] = []

    async def connect() -> Client:
        client = Client(*await asyncio.open_connection(*address))
        clients.append(client)
        return client

    await server.start([listening])
    try:
        yield connect
    finally:
        for client in clients:
            client.writer.transport.abort()
        await server.stop()


def test_half_a_request_is_given_up_and_an_idle_client_is_not() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), Echo()) as connect:
            idle = await connect()
            assert b"StoreDir" in await idle.ask()
            for sent in (b"", b"G", REQUEST[:-2]):
                client = await connect()
                client.writer.write(sent)
                assert await clock.skip_until(client.ended(), SOON)
            # Also if it is not the first.
            client = await connect()
            await client.ask()
            client.writer.write(REQUEST[:-1])
            assert await clock.skip_until(client.ended(), SOON)
            assert b"StoreDir" in await idle.ask()

    run_on_clock(main)


def test_a_request_by_drops_is_given_up() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), Echo()) as connect:
            client = await connect()

            async def drip() -> None:
                client.writer.write(REQUEST[:-2])
                while True:
                    client.writer.write(b"x: y\r\n")
                    await client.writer.drain()
                    await asyncio.sleep(SOON / 20)

            dripping = asyncio.create_task(drip())
            assert await clock.skip_until(client.ended(), SOON / 20)
            dripping.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await dripping

    run_on_clock(main)


def test_a_reply_may_take_longer_than_a_request() -> None:
    async def main(clock: Clock) -> None:
        source = SlowEcho()
        async with serving(ConnectionLimits(head_s=SOON, idle_s=NEVER), source) as connect:
            patient = await connect()
            patient.writer.write(SLOW)
            await source.asked.wait()
            # The beginning of the next request, for which there is all the time of the reply.
            patient.writer.write(REQUEST[:9])
            other = await connect()
            assert await clock.skip_until(other.ended(), SOON)
            source.go_on.set()
            assert HASH.encode() in await patient.reply()
            assert b"StoreDir" in await patient.ask(REQUEST[9:])

    run_on_clock(main)


def test_an_idle_client_is_given_up() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(head_s=NEVER, idle_s=SOON), Echo()) as connect:
            client = await connect()
            assert b"StoreDir" in await client.ask()
            assert await clock.skip_until(client.ended(), SOON)

    run_on_clock(main)


def test_one_client_more_takes_the_place_of_the_longest_idle() -> None:
    async def main(clock: Clock) -> None:
        async with serving(ConnectionLimits(3, NEVER, NEVER), Echo()) as connect:
            first, second, third = [await connect() for _ in range(3)]
            for client in (third, first, second):
                await client.ask()
            fourth = await connect()
            assert b"StoreDir" in await fourth.ask()
            assert await third.ended()
            for client in (first, second, fourth):
                assert b"StoreDir" in await client.ask()

    run_on_clock(main)


def test_who_is_being_answered_is_not_sent_away() -> None:
    async def main(clock: Clock) -> None:
        source = SlowEcho()
        async with serving(ConnectionLimits(1, NEVER, NEVER), source) as connect:
            client = await connect()
            client.writer.write(SLOW)
            await source.asked.wait()
            assert await (await connect()).ended()
            source.go_on.set()
            assert HASH.encode() in await client.reply()
            # And then there is room again for another.
            assert b"StoreDir" in await (await connect()).ask()
            assert await client.ended()

    run_on_clock(main)

"""Handshakes of strangers: they are few, short, and nobody hears of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio import TimerHandle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from kapla.identity import accepting
from kapla.identity.accepting import MOST_HANDSHAKES, TlsServer
from kapla.identity.contexts import client_context, server_context
from kapla.identity.pair import KeyPair

GUARD_S = 30.0
PAIR = KeyPair.generate()


class Served(asyncio.Protocol):
    """Says that it is there; counted when its connection is made."""

    def __init__(self, house: House) -> None:
        self._house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._house.made += 1
        transport.write(b"here")


@dataclass
class House:
    """A server, and what came of its connections."""

    port: int = 0
    made: int = 0
    complaints: list[object] = field(default_factory=list)

    async def knock(
        self, origin: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection without TLS."""
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(origin, 0))

    async def visit(self) -> None:
        """A client that is served."""
        context = client_context(None, PAIR.public)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        assert await reader.readexactly(4) == b"here"
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    house = House()
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: house.complaints.append(context)
    )
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    house.port = listening.getsockname()[1]
    server = TlsServer([listening], server_context(PAIR, None), lambda: Served(house))
    try:
        async with asyncio.timeout(GUARD_S):
            yield house
    finally:
        server.close()
    assert house.complaints == []


def old_tls() -> ssl.SSLContext:
    """What a listener refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def old_greeting() -> bytes:
    """What such a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        old_tls().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_strangers_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that time does not help.
    monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT_S", 2 * GUARD_S)

    async def main() -> None:
        async with open_house() as house:
            strangers = [await house.knock() for _ in range(2 * MOST_HANDSHAKES)]
            await house.visit()
            # Those who came first had to go; they have not been heard of.
            for reader, _ in strangers[:MOST_HANDSHAKES]:
                assert await reader.read() == b""
            assert house.made == 1
            for _, writer in strangers:
                writer.close()

    asyncio.run(main())


def test_whoever_comes_again_and_again_takes_no_place_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT_S", 2 * GUARD_S)

    async def main() -> None:
        async with open_house() as house:
            # Far away: the greeting takes a while.
            slow = [await house.knock(f"127.0.0.{number}") for number in (3, 4)]
            strangers = [await house.knock("127.0.0.2") for _ in range(4 * MOST_HANDSHAKES)]
            for _, writer in slow:
                await writer.start_tls(client_context(None, PAIR.public))
            for reader, writer in slow:
                assert await reader.readexactly(4) == b"here"
                writer.close()
            for _, writer in strangers:
                writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
    ],
)
def test_whoever_has_an_address_has_its_network(one: str, other: str, are_one: bool) -> None:
    assert (accepting._origin(one) == accepting._origin(other)) == are_one


def test_who_says_nothing_loses_his_place_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with open_house() as house:
            reader, writer = await house.knock()
            assert await reader.read() == b""
            writer.close()
            assert house.made == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", bytes(300), b"\x16\x03\x01\0\5" + bytes(5)]
)
def test_what_is_no_tls_is_answered_shortly_and_not_logged(
    caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    async def main() -> None:
        async with open_house() as house:
            for goodbye in (True, False):
                reader, writer = await house.knock()
                writer.write(data)
                if goodbye:
                    writer.write_eof()
                assert len(await reader.read()) < 16
                writer.close()
            assert house.made == 0
            await house.visit()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert caplog.records == []


def test_who_is_refused_is_told_why() -> None:
    async def main() -> None:
        async with open_house() as house:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await asyncio.open_connection("127.0.0.1", house.port, ssl=old_tls())

    asyncio.run(main())


def test_who_is_told_and_does_not_go_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "_FAREWELL_S", 0.05)

    async def main() -> None:
        async with open_house() as house:
            reader, writer = await house.knock()
            writer.write(old_greeting())
            assert await reader.read()
            # It goes on talking, until somebody tells it that nobody is there.
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(bytes(10_000))
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.close()

    asyncio.run(main())


def test_where_no_more_files_may_be_open_it_goes_on_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.05)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        failed = loop.create_future()

        class Full(socket.socket):
            """No connection can be accepted, once."""

            def accept(self) -> tuple[socket.socket, object]:
                if not failed.done():
                    failed.set_result(None)
                    raise OSError(24, "Too many open files")
                return super().accept()

        listening = Full()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        house = House(port=listening.getsockname()[1])
        server = TlsServer([listening], server_context(PAIR, None), lambda: Served(house))
        async with asyncio.timeout(GUARD_S):
            await house.visit()
        assert failed.done()
        server.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert caplog.records == []


def test_others_have_their_turn_between_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "_SLICE_S", 0.0)
    pauses: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, callback: Callable[..., object], *rest: object) -> TimerHandle:
            if getattr(callback, "__func__", None) is TlsServer._go_on:
                pauses.append(delay)
            return call_later(delay, callback, *rest)

        monkeypatch.setattr(loop, "call_later", noted)
        async with open_house() as house:
            for _ in range(4):
                await house.visit()

    asyncio.run(main())
    # One before each but the first, for what the one before took.
    assert len(pauses) == 3
    assert min(pauses) > 0


def test_a_closed_server_ends_handshakes_and_keeps_connections() -> None:
    async def main() -> None:
        house = House()
        listening = socket.create_server(("127.0.0.1", 0))
        house.port = listening.getsockname()[1]
        server = TlsServer([listening], server_context(PAIR, None), lambda: Served(house))
        async with asyncio.timeout(GUARD_S):
            context = client_context(None, PAIR.public)
            guest, staying = await asyncio.open_connection("127.0.0.1", house.port, ssl=context)
            stranger, silent = await house.knock()
            await house.visit()  # so the stranger has been let in before
            server.close()
            assert await stranger.read() == b""
            assert await guest.readexactly(4) == b"here"
            with pytest.raises(ConnectionRefusedError):
                await house.knock()
            silent.close()
            staying.close()

    asyncio.run(main())

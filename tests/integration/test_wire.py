"""The bytes on the wire of a real daemon, and peers that mean harm or know no better."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread

import pytest

from eris import BlockSize, reference_of
from eris.base32 import format_base32
from kapla.client import RemoteStore
from kapla.coap.frame import Code, Message, encode_uint, format_message
from kapla.urls import parse_store_url
from tests.integration.daemon import Daemon, RawPeer, running_daemon, wait_until

BLOCKS_PATH = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
SMALL, LARGE = os.urandom(1024), os.urandom(32768)
REFERENCE, LARGE_REFERENCE = reference_of(SMALL), reference_of(LARGE)
MIB = 1 << 20

Connect = Callable[[], RawPeer]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that has both blocks: a Unix socket, and a TCP port for reading."""
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as running:
        with running.connect() as peer:
            for block in (SMALL, LARGE):
                assert put(peer, block).code == Code.CREATED
        yield running
        assert "Traceback" not in running.log
        assert "failed" not in running.log


@pytest.fixture(params=["unix", "tcp"])
def connect(daemon: Daemon, request: pytest.FixtureRequest) -> Connect:
    """How a peer reaches the daemon."""
    return daemon.connect if request.param == "unix" else daemon.connect_tcp


def get_bytes(reference: bytes, token: bytes = b"t") -> bytes:
    query = format_base32(reference).encode()
    return format_message(Code.GET, token, [*BLOCKS_PATH, (15, query), (60, b"\x04\x00")])


def get(peer: RawPeer, reference: bytes) -> Message:
    peer.send(get_bytes(reference))
    return peer.response()


def put(peer: RawPeer, block: bytes) -> Message:
    return peer.request(Code.PUT, b"p", BLOCKS_PATH, block)


def works(connect: Connect) -> bool:
    """Whether a new peer is served."""
    with connect() as peer:
        return get(peer, REFERENCE).payload == SMALL


# --- what is asked and answered ---------------------------------------------------------------


def test_the_bytes_of_the_greeting(connect: Connect) -> None:
    with connect() as peer:
        assert peer.receive() == Message(Code.CSM, b"", ((2, b"\x02\x00\x00"), (4, b"")), b"")


def test_a_raw_reference(connect: Connect) -> None:
    # The request that ends the connection of aiocoap's own server: 32 octets that are no UTF-8.
    with connect() as peer:
        head = bytes.fromhex("d12d01aa") + b"\xbb.well-known\x04eris\x06blocks\x4d\x13"
        peer.send(head + REFERENCE)
        response = peer.response()
        assert (response.code, response.token, response.payload) == (Code.CONTENT, b"\xaa", SMALL)
        peer.send(head + b"\xff" * 32)
        assert peer.response() == Message(Code.NOT_FOUND, b"\xaa", (), b"")


def test_the_bytes_of_a_block(connect: Connect) -> None:
    with connect() as peer:
        peer.receive()
        peer.send(get_bytes(REFERENCE, b"tk") + get_bytes(LARGE_REFERENCE, b"tk"))
        expected = b"\xe2\x02\xf4\x45tk\xff" + SMALL + b"\xe2\x7e\xf4\x45tk\xff" + LARGE
        received = b""
        while len(received) < len(expected):
            received += peer.socket.recv(1 << 16)
        assert received == expected


def test_a_thousand_requests_in_one_write(connect: Connect) -> None:
    tokens = [encode_uint(number) for number in range(1000)]
    wanted = [REFERENCE, LARGE_REFERENCE, bytes(32)]
    with connect() as peer:
        peer.send(b"".join(get_bytes(wanted[n % 3], token) for n, token in enumerate(tokens)))
        answers = {message.token: message for message in peer.responses(1000)}
    assert set(answers) == set(tokens)
    for number, token in enumerate(tokens):
        assert answers[token].payload == [SMALL, LARGE, b""][number % 3]


def test_a_thousand_puts_in_one_write(daemon: Daemon) -> None:
    blocks = [os.urandom(1024) for _ in range(1000)]
    with daemon.connect() as peer:
        peer.send(
            b"".join(
                format_message(Code.PUT, encode_uint(number), BLOCKS_PATH, block)
                for number, block in enumerate(blocks)
            )
        )
        assert {message.code for message in peer.responses(1000)} == {Code.CREATED}
        peer.send(b"".join(get_bytes(reference_of(block)) for block in blocks))
        assert {message.payload for message in peer.responses(1000)} == set(blocks)


def test_ping_and_release(connect: Connect) -> None:
    with connect() as peer:
        peer.receive()
        peer.send_message(Code.PING, b"12345678")
        assert peer.receive() == Message(Code.PONG, b"12345678", (), b"")
        peer.send(get_bytes(LARGE_REFERENCE) * 10 + b"\x00\xe4")
        assert [message.payload for message in peer.rest()] == [LARGE] * 10


def test_responses_sent_to_the_server_are_ignored(connect: Connect) -> None:
    with connect() as peer:
        peer.send(format_message(Code.CONTENT, b"t", payload=SMALL) * 1000)
        peer.send(format_message(Code.NOT_FOUND, b"t") * 1000)
        assert get(peer, REFERENCE).payload == SMALL


def test_rights(daemon: Daemon) -> None:
    stat = [(11, b"kapla"), (11, b"stat")]
    with daemon.connect_tcp() as peer:
        response = put(peer, SMALL)
        assert (response.code, response.payload) == (
            Code.FORBIDDEN,
            b"this store is read-only here",
        )
        assert peer.request(Code.GET, options=stat).code == Code.FORBIDDEN
        assert get(peer, REFERENCE).payload == SMALL
        core = peer.request(Code.GET, options=[(11, b".well-known"), (11, b"core")])
        assert b"stat" not in core.payload
    with daemon.connect() as peer:
        response = peer.request(Code.GET, options=stat)
        assert json.loads(response.payload)["connections"]["now"] >= 1
        core = peer.request(Code.GET, options=[(11, b".well-known"), (11, b"core")])
        assert b"stat" in core.payload


def test_the_flags_of_a_listener() -> None:
    listen = ["coap+tcp://127.0.0.1:0?put"]
    with running_daemon(listen=listen) as daemon:
        with daemon.connect_tcp() as peer:
            assert put(peer, SMALL).code == Code.CREATED
            assert get(peer, REFERENCE).code == Code.FORBIDDEN
        with daemon.connect() as peer:
            assert get(peer, REFERENCE).payload == SMALL


# --- bytes that come otherwise than they should -----------------------------------------------


def test_an_oversized_message_ends_its_connection_only(connect: Connect) -> None:
    with connect() as good, connect() as bad:
        assert get(good, REFERENCE).payload == SMALL
        bad.receive()
        bad.send(b"\xf0\xff\xff\xff\xff\x03" + bytes(1000))
        abort = bad.receive()
        assert abort is not None
        assert abort.code == Code.ABORT
        assert b"longer than 131072" in abort.payload
        assert bad.receive() is None
        assert get(good, LARGE_REFERENCE).payload == LARGE


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\x00\x01",
        b"\xff" * 1000,
        bytes(1000),
    ],
    ids=["http", "tls", "request", "ones", "zeroes"],
)
def test_garbage_instead_of_a_csm(connect: Connect, garbage: bytes) -> None:
    with connect() as good:
        with RawPeer(_dial(good), csm=False) as bad:
            bad.send(garbage)
            assert [message.code for message in bad.rest()] == [Code.CSM, Code.ABORT]
        assert get(good, REFERENCE).payload == SMALL


def _dial(like: RawPeer) -> socket.socket:
    """Another connection to where this peer is connected."""
    connecting = socket.socket(like.socket.family, socket.SOCK_STREAM)
    connecting.connect(like.socket.getpeername())
    return connecting


def test_a_peer_that_sends_byte_by_byte(daemon: Daemon) -> None:
    block = os.urandom(1024)
    with daemon.connect() as slow, daemon.connect() as other:
        message = format_message(Code.PUT, b"slow", BLOCKS_PATH, block) + get_bytes(REFERENCE)
        for number, byte in enumerate(message):
            slow.send(bytes([byte]))
            if number % 100 == 0:
                assert get(other, REFERENCE).payload == SMALL
        answers = {message.token: message for message in slow.responses(2)}
        assert answers[b"slow"].code == Code.CREATED
        assert answers[b"t"].payload == SMALL
        assert get(other, reference_of(block)).payload == block


@pytest.mark.parametrize("length", [1, 5, 500, 20_000])
def test_a_disconnection_in_the_middle_of_a_message(daemon: Daemon, length: int) -> None:
    block = os.urandom(32768)
    with daemon.connect() as peer:
        peer.send(format_message(Code.PUT, b"t", BLOCKS_PATH, block)[:length])
    with daemon.connect() as peer:
        assert get(peer, reference_of(block)).code == Code.NOT_FOUND


def test_a_peer_that_is_gone_before_its_answers(connect: Connect) -> None:
    for _ in range(20):
        with connect() as peer:
            peer.send(get_bytes(LARGE_REFERENCE) * 300)
    assert works(connect)


def test_a_half_closed_connection_gets_its_answers(connect: Connect) -> None:
    with connect() as peer:
        peer.send(get_bytes(LARGE_REFERENCE) * 500)
        peer.half_close()
        answers = [message for message in peer.rest() if message.code < Code.CSM]
        assert [message.payload for message in answers] == [LARGE] * 500


def test_a_half_closed_connection_in_the_middle_of_a_message(connect: Connect) -> None:
    with connect() as peer:
        peer.send(get_bytes(REFERENCE) + get_bytes(REFERENCE)[:20])
        peer.half_close()
        assert [message.code for message in peer.rest()] == [Code.CSM, Code.CONTENT]


def test_any_end_of_a_conversation_is_survived(connect: Connect) -> None:
    endings: list[Callable[[RawPeer], object]] = [
        RawPeer.half_close,
        RawPeer.close,
        lambda peer: peer.send_message(Code.ABORT, payload=b"\xff\n"),
        lambda peer: peer.send_message(Code.RELEASE),
        lambda peer: peer.send(b"\x0f"),
        lambda peer: peer.send_message(Code.CSM, options=[(1, b"")]),
        lambda peer: peer.send(b"\x10\xe2\xff"),
    ]
    for ending in endings:
        with connect() as peer:
            peer.send(get_bytes(LARGE_REFERENCE) * 50)
            ending(peer)
    assert works(connect)


# --- many, and too much -----------------------------------------------------------------------


def flood(peer: RawPeer, data: bytes, other: RawPeer) -> int:
    """Send until the daemon takes no more, while another peer is served; returns the bytes sent."""
    peer.socket.setblocking(False)
    sent, refusals = 0, 0
    # It takes no more when it took nothing during so many conversations with another.
    while refusals < 50 and sent < 64 * MIB:
        try:
            sent += peer.socket.send(memoryview(data)[sent % len(data) :])
            refusals = 0
        except BlockingIOError:
            refusals += 1
            assert get(other, REFERENCE).payload == SMALL
        except ConnectionError:
            break  # so many at once that the daemon has had enough
    return sent


GET_PIECE = format_message(Code.GET, b"t", [*BLOCKS_PATH, (15, LARGE_REFERENCE), (23, b"\x06")])
FLOODS = [
    pytest.param("unix", get_bytes(LARGE_REFERENCE) * 1000, id="unix-blocks"),
    pytest.param("tcp", get_bytes(LARGE_REFERENCE) * 1000, id="tcp-blocks"),
    pytest.param("unix", GET_PIECE * 1000, id="pieces"),
    pytest.param("unix", format_message(Code.PING, b"12345678") * 6000, id="pings"),
    pytest.param("unix", format_message(Code.GET, b"t", [(11, b"x")]) * 6000, id="nothing"),
]


@pytest.mark.parametrize(("kind", "data"), FLOODS)
def test_peers_that_do_not_read_cost_little_and_stop_nobody(kind: str, data: bytes) -> None:
    with (
        running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as daemon,
        daemon.connect() as peer,
        ExitStack() as silent,
    ):
        for block in (SMALL, LARGE):
            put(peer, block)
        peer.send(get_bytes(LARGE_REFERENCE) * 500)
        peer.responses(500)
        before = daemon.anonymous_bytes()
        connect = daemon.connect if kind == "unix" else daemon.connect_tcp
        for _ in range(4):
            assert flood(silent.enter_context(connect()), data, peer) < 32 * MIB
        # A few MiB for each, twice where answers are put together, and what the heap keeps: but not
        # the thousand times more that was asked for.
        grown = daemon.anonymous_bytes() - before
        assert grown < 4 * 8 * MIB + 48 * MIB, f"{grown / MIB:.0f} MiB"


def test_sixty_four_connections_at_once(connect: Connect) -> None:
    peers = [connect() for _ in range(64)]
    for number, peer in enumerate(peers):
        peer.send(get_bytes(LARGE_REFERENCE, bytes([number])) * 20)
    for number, peer in enumerate(peers):
        answers = peer.responses(20)
        assert {(one.token, one.payload) for one in answers} == {(bytes([number]), LARGE)}
        peer.close()


def test_sixty_four_clients_at_once(daemon: Daemon) -> None:
    blocks = [os.urandom(1024) for _ in range(64)]

    async def one(block: bytes) -> bytes:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            await store.put(reference_of(block), block)
            return await store.get(reference_of(block), BlockSize.SMALL)

    async def main() -> list[bytes]:
        return await asyncio.gather(*map(one, blocks))

    assert asyncio.run(main()) == blocks


def test_more_connections_than_allowed() -> None:
    with running_daemon(env={"KAPLA_MAX_CONNECTIONS": "3"}) as daemon:
        peers = [daemon.connect() for _ in range(3)]
        for peer in peers:
            assert get(peer, REFERENCE).code == Code.NOT_FOUND
        with daemon.connect(csm=False) as refused:
            messages = refused.rest()
            assert [message.code for message in messages] == [Code.CSM, Code.ABORT]
            assert messages[1].payload == b"too many connections"
        for peer in peers:
            assert get(peer, REFERENCE).code == Code.NOT_FOUND
        peers.pop().close()

        def is_served() -> bool:
            with daemon.connect(csm=False) as peer:
                peer.receive()
                peer.socket.setblocking(True)
                peer.send(b"\x00\xe1\x00\xe2")
                message = peer.receive()
                return message is not None and message.code == Code.PONG

        wait_until(is_served, "the place of a connection that has ended")
        for peer in peers:
            peer.close()


# --- stopping ---------------------------------------------------------------------------------


def test_a_stop_releases_whoever_is_idle() -> None:
    with running_daemon() as daemon, daemon.connect() as peer:
        assert get(peer, REFERENCE).code == Code.NOT_FOUND
        assert daemon.stop() == 0
        assert [message.code for message in peer.rest()] == [Code.RELEASE]


def test_a_stop_answers_what_was_asked() -> None:
    with running_daemon() as daemon, daemon.connect() as peer:
        put(peer, LARGE)
        # The first answer tells that all were read, since they fit one read.
        peer.send(get_bytes(LARGE_REFERENCE) * 100)
        peer.response()
        codes_of_exit: list[int] = []
        stopping = Thread(target=lambda: codes_of_exit.append(daemon.stop()))
        stopping.start()
        codes = [message.code for message in peer.rest()]
        stopping.join()
        assert codes.count(Code.CONTENT) == 99
        assert codes_of_exit == [0]


def test_a_stop_does_not_wait_for_ever() -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get"]) as daemon, daemon.connect() as peer:
        put(peer, LARGE)
        put(peer, SMALL)
        with daemon.connect_tcp() as silent, daemon.connect() as half:
            flood(silent, get_bytes(LARGE_REFERENCE) * 1000, peer)
            half.send(get_bytes(REFERENCE)[:10])
            assert daemon.stop() == 0
        assert "1 connections did not end in time" in daemon.log
        assert not daemon.socket.exists()

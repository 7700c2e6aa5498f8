"""The server's end of a connection: limits, order, ends. Every peer here is hostile or unlucky."""

from __future__ import annotations

import asyncio
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import reference_of
from kapla.coap.frame import Code, format_message
from kapla.storage.access import Rights
from tests.clocks import run_without_waiting
from tests.examples import examples
from tests.kapla.coap.harness import (
    ALL_RIGHTS,
    BLOCKS_PATH,
    EMPTY_CSM,
    LARGE,
    SMALL,
    MemoryStorage,
    Server,
    request_bytes,
)

REFERENCE = reference_of(LARGE)
GET = request_bytes(Code.GET, [*BLOCKS_PATH, (15, REFERENCE)])
SLOW_GET = request_bytes(Code.GET, [*BLOCKS_PATH, (15, REFERENCE), (23, b"\x06")])
NOTHING = request_bytes(Code.GET, [(11, b"nothing")])
PUT = request_bytes(Code.PUT, BLOCKS_PATH, SMALL)
ABORT = format_message(Code.ABORT)
RELEASE = format_message(Code.RELEASE)


def codes(server: Server) -> list[int]:
    """Everything sent after our CSM."""
    return [message.code for message in server.messages()][1:]


# --- batches and limits -----------------------------------------------------------------------


def test_what_arrives_together_is_asked_together() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.feed((GET + PUT) * 10)
        await server.settle()
        assert sorted(server.storage.batches) == [("get", 10), ("put", 10)]
        assert len(server.responses()) == 20

    asyncio.run(run())


# How many others are there, and how many blocks of 32 KiB one may then have under way.
SHARES = [(0, 256), (1, 128), (3, 64), (7, 32), (1000, 32)]


@pytest.mark.parametrize(("others", "most"), SHARES)
def test_requests_beyond_the_limit_wait_and_reading_stops(others: int, most: int) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.connect_others(others)
        count = 2 * most + 8
        server.feed(GET * count)
        # What a GET brings is not known before: it counts as 32 KiB.
        for under_way in (most, 2 * most, count):
            assert sum(number for _, number in storage.batches) == under_way
            assert server.transport.reading == (under_way == count)
            storage.deliver()
        assert len(server.responses()) == count
        # In parts, so that the first is worked on before the last is there.
        assert set(storage.batches) <= {("get", 16), ("get", 8)}

    asyncio.run(run())


PING = format_message(Code.PING, b"p", [(2, b"")])
"""With Custody: its answer waits for all that is asked before it."""


@pytest.mark.parametrize("before", [GET * 3, PUT, SLOW_GET, GET + PUT + SLOW_GET])
def test_a_ping_with_custody_is_answered_after_all_before_it(before: bytes) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed(before + PING + NOTHING)
        await server.settle()
        assert codes(server) == []
        while storage.held:
            storage.deliver()
            await server.settle()
        *answers, pong, behind = server.messages()[1:]
        assert {answer.code for answer in answers} <= {Code.CONTENT, Code.CREATED}
        assert (pong.code, pong.token, pong.options) == (Code.PONG, b"p", ((2, b""),))
        assert behind.code == Code.NOT_FOUND

    asyncio.run(run())


def test_pings_with_custody_and_nothing_before_them_are_answered_at_once() -> None:
    server_codes: list[int] = []

    async def run() -> None:
        server = Server(MemoryStorage())
        server.feed(PING * 3 + NOTHING + PING)
        await server.settle()
        server_codes.extend(codes(server))

    asyncio.run(run())
    assert server_codes == [Code.PONG] * 3 + [Code.NOT_FOUND, Code.PONG]


@pytest.mark.parametrize("end", [RELEASE, ABORT])
def test_a_ping_with_custody_that_waits_does_not_outlive_its_connection(end: bytes) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed(GET + PING + end)
        await server.settle()
        storage.deliver()
        await server.settle()
        assert codes(server) == ([Code.CONTENT, Code.PONG] if end == RELEASE else [])
        assert server.transport.is_closing()
        assert len(server.closed) == 1

    asyncio.run(run())


def test_peers_that_have_left_take_no_share() -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        for transport in server.connect_others(20):
            transport.abort()
        await server.settle()
        server.feed(GET * 1000)
        assert sum(number for _, number in storage.batches) == 256
        assert server.statistics.connections == 21

    asyncio.run(run())


@pytest.mark.parametrize(("others", "most"), [(0, 1024), (1, 512), (7, 128), (1000, 128)])
def test_a_hint_that_blocks_are_small_is_believed_once(others: int, most: int) -> None:
    small_get = request_bytes(
        Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE)), (60, b"\x04\x00")]
    )

    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.connect_others(others)
        server.feed(small_get * (2 * most))
        assert sum(number for _, number in storage.batches) == most
        before = len(storage.batches)
        storage.deliver()
        assert sum(number for _, number in storage.batches[before:]) == min(most, most // 4)

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 128, 129, 300, 5000])
def test_responses_are_ignored_however_many(count: int) -> None:
    # Each takes the place of a request for a moment; that must not stop the connection.
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.feed(format_message(Code.CONTENT, b"t", payload=b"x") * count)
        await server.settle()
        assert server.transport.reading
        server.feed(b"\x00\x45" * count + GET)
        await server.settle()
        assert codes(server) == [Code.CONTENT]

    asyncio.run(run())


@pytest.mark.parametrize("request_", [GET, SLOW_GET, PUT, NOTHING], ids=len)
def test_refusals_do_not_pile_up(request_: bytes) -> None:
    # A refusal is answered before the request is even counted as handed on: the next requests are
    # then taken from within, which must not go deeper with each.
    async def run() -> None:
        server = Server(rights=Rights(get=False, put=False))
        count = min(5000, (1 << 18) // len(request_))
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(500)
        try:
            server.feed(request_ * count)
            while len(server.responses()) < count:
                await server.settle()
        finally:
            sys.setrecursionlimit(limit)
        assert server.transport.reading

    asyncio.run(run())


@pytest.mark.parametrize("tiny", [b"\x00\x01", b"\x00\x00", b"\x00\xe2", b"\x00\x45"])
def test_a_flood_of_tiny_messages_ends_the_connection(tiny: bytes) -> None:
    async def run() -> None:
        server = Server()
        server.feed(tiny * (1 << 17))
        await server.settle()
        *pongs, last = codes(server)
        assert last == Code.ABORT and len(pongs) <= 64
        assert server.closed == [server.peer]

    asyncio.run(run())


def test_as_many_requests_as_one_read_brings_are_taken() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([SMALL]))
        shortest = request_bytes(Code.GET, [(11, b"blocks"), (15, bytes(32))], token=b"")
        count = (1 << 18) // len(shortest)
        server.feed(shortest * count)
        while len(server.responses()) < count:
            await server.settle()
        assert {message.code for message in server.responses()} == {Code.NOT_FOUND}

    asyncio.run(run())


# --- slow peers -------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_is_not_read_from() -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE])
        server = Server(storage)
        server.transport.blocked = True
        server.connect_others(7)
        server.feed(GET * 1000)
        await server.settle()
        assert not server.transport.reading
        # What was asked for when the buffer filled up is the most there is.
        assert len(server.transport.output) < (32 + 16 + 1) * 33_000
        asked = len(storage.batches)
        await server.settle()
        assert len(storage.batches) == asked
        server.transport.unblock()
        while len(server.responses()) < 1000:
            await server.settle()
        assert server.transport.reading

    asyncio.run(run())


def test_pings_of_a_peer_that_does_not_read() -> None:
    async def run() -> None:
        server = Server()
        server.transport.blocked = True
        pings = format_message(Code.PING, b"12345678") * 60
        fed = 0
        while server.transport.reading and fed < 5000:
            server.feed(pings)
            fed += 1
        assert fed < 1500
        server.transport.unblock()
        assert server.transport.reading

    asyncio.run(run())


def test_a_peer_gone_while_it_had_more_to_say_than_to_ask_is_forgotten() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.transport.blocked = True
        server.feed(GET * 120)
        await server.settle()
        server.feed(b"\x00\x45" * 10)  # what waits then is nothing that will be answered
        server.peer.eof_received()
        await server.settle()
        assert server.closed == []
        server.transport.unblock()
        await server.settle()
        assert len(server.responses()) == 120
        assert server.closed == [server.peer]

    asyncio.run(run())


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["eof", "release", "finish"])
@pytest.mark.parametrize("request_", [GET, SLOW_GET, PUT, NOTHING], ids=len)
def test_an_orderly_end_comes_after_the_answers(end: str, request_: bytes) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed(request_ * 200)
        if end == "eof":
            assert server.peer.eof_received() is True
        elif end == "release":
            server.feed(RELEASE)
        else:
            server.peer.finish()
        while not server.closed:
            await server.settle()
            storage.deliver()
        assert len(server.responses()) == 200
        assert codes(server).count(Code.RELEASE) == (1 if end == "finish" else 0)

    asyncio.run(run())


@pytest.mark.parametrize("end", ["eof", "release", "finish", "abort", "their abort"])
def test_an_idle_connection_ends_at_once(end: str) -> None:
    async def run() -> None:
        server = Server()
        match end:
            case "eof":
                server.peer.eof_received()
            case "release":
                server.feed(RELEASE)
            case "finish":
                server.peer.finish()
            case "abort":
                server.peer.abort()
            case _:
                server.feed(ABORT)
        await server.settle()
        assert server.closed == [server.peer]

    asyncio.run(run())


def test_an_abort_ends_everything() -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed((GET + SLOW_GET) * 300 + ABORT)
        await server.settle()
        assert server.transport.lost
        assert server.responses() == []
        # What is worked on for it takes memory: so long it keeps its place.
        assert server.closed == []
        assert server.statistics.open_connections == 1
        storage.deliver()  # answers that come too late go nowhere
        await server.settle()
        assert server.closed == [server.peer]
        assert server.statistics.open_connections == 0
        assert server.responses() == []

    asyncio.run(run())


@pytest.mark.parametrize("request_", [GET, SLOW_GET, PUT], ids=["get", "slow get", "put"])
def test_what_nobody_waits_for_is_not_wanted(request_: bytes) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed(request_)
        await server.settle()
        assert [wanted() for wanted in storage.wanted] == [True]
        server.transport.abort()
        await server.settle()
        assert [wanted() for wanted in storage.wanted] == [False]

    asyncio.run(run())


def test_a_stop_between_accepting_and_serving() -> None:
    async def run() -> None:
        server = Server(stopped=True, csm=b"")
        await server.settle()
        assert codes(server) == [Code.RELEASE]
        assert server.closed == [server.peer]

    asyncio.run(run())


@pytest.mark.parametrize("requests", [2, 128])
def test_a_peer_that_takes_its_answers_slowly_is_served(requests: int) -> None:
    """However full its buffer is each time somebody looks."""

    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.transport.blocked = True
        server.feed(GET * requests)
        for _ in range(60):
            await asyncio.sleep(10)
            server.transport.take(33_000)
            server.feed(GET)
            assert not server.transport.lost
        await asyncio.sleep(100)
        assert server.transport.lost

    run_without_waiting(run)


def test_an_aborted_peer_that_takes_nothing_is_dropped() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.transport.blocked = True
        server.feed(GET)
        await server.settle()
        server.feed(b"\xff" * 100)
        await server.settle()
        assert not server.transport.lost
        await asyncio.sleep(100)
        assert server.closed == [server.peer]

    run_without_waiting(run)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\xff" * 100, b"\0\0"]
)
def test_garbage_instead_of_a_csm(garbage: bytes) -> None:
    async def run() -> None:
        server = Server(csm=b"")
        server.feed(garbage)
        await server.settle()
        assert codes(server) in ([Code.ABORT], [])
        if codes(server):
            assert server.closed == [server.peer]

    asyncio.run(run())


def test_a_peer_that_says_nothing_is_dismissed() -> None:
    async def run() -> None:
        silent, polite = Server(csm=b""), Server()
        silent.peer._miss_greeting()
        polite.peer._miss_greeting()
        await silent.settle()
        assert codes(silent) == [Code.ABORT]
        assert silent.closed == [silent.peer]
        assert polite.closed == []

    asyncio.run(run())


def test_an_oversized_message() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        server.feed(format_message(Code.PUT, b"t", payload=bytes(131072)))
        await server.settle()
        (_, abort) = server.messages()
        assert abort.code == Code.ABORT
        assert b"131072" in abort.payload
        assert server.closed == [server.peer]

    asyncio.run(run())


def test_a_connection_lost_with_requests_in_both_lanes() -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage)
        server.feed((GET + PUT + SLOW_GET + NOTHING) * 20)
        await asyncio.sleep(0)
        server.transport.abort()
        await server.settle()
        storage.deliver()
        await server.settle()
        assert server.closed == [server.peer]
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(run())


def test_one_connection_too_many() -> None:
    async def run() -> None:
        server = Server(csm=b"", refused=True)
        await server.settle()
        assert codes(server) == [Code.ABORT]
        assert server.messages()[1].payload == b"too many connections"
        assert server.closed == [server.peer]

    asyncio.run(run())


# --- anything ---------------------------------------------------------------------------------

REQUESTS = {"get": GET, "slow get": SLOW_GET, "put": PUT, "nothing": NOTHING}
NOISE = {"response": b"\x00\x45", "empty": b"\x00\x00", "ping": format_message(Code.PING, b"p")}
STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from([*REQUESTS, *NOISE]), min_size=1, max_size=9),
        st.sampled_from([["get"] * 200, ["slow get"] * 150]),
        st.sampled_from(["block", "unblock", "deliver", "settle"]),
    ),
    max_size=12,
)


@settings(max_examples=examples(40))
@given(STEPS, st.sampled_from(["eof", "release", "finish", "abort"]))
def test_whatever_happens_the_connection_ends_with_every_request_answered(
    steps: list[list[str] | str], end: str
) -> None:
    async def run() -> None:
        storage = MemoryStorage([LARGE], hold=True)
        server = Server(storage, ALL_RIGHTS)
        transport = server.transport
        asked = 0
        unread = b""

        async def go_on() -> None:
            nonlocal unread
            await server.settle()
            storage.deliver()
            if unread and transport.reading:
                server.feed(unread)
                unread = b""

        for step in [*steps, "unblock"]:
            match step:
                case "block":
                    transport.blocked = True
                case "unblock":
                    transport.unblock()
                case "deliver":
                    storage.deliver()
                case "settle":
                    await go_on()
                case _:
                    unread += b"".join((REQUESTS | NOISE)[name] for name in step)
                    asked += sum(name in REQUESTS for name in step)
        # A peer that is not read from cannot end it either, but for an end of all.
        while end != "abort" and (unread or not transport.reading):
            await go_on()
        match end:
            case "eof":
                server.peer.eof_received()
            case "release":
                server.feed(RELEASE)
            case "finish":
                server.peer.finish()
            case _:
                server.peer.abort()
        while not server.closed:
            await go_on()
        storage.deliver()
        await server.settle()
        if end != "abort":
            assert len(server.responses()) == asked
        assert server.statistics.get + server.statistics.put <= asked

    asyncio.run(run())


def test_the_csm_and_the_first_request_in_one_piece() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]), csm=b"")
        server.feed(EMPTY_CSM + GET)
        await server.settle()
        assert codes(server) == [Code.CONTENT]

    asyncio.run(run())

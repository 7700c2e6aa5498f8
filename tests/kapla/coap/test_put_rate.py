"""A rate for what is put: who has put more waits, in turn, and nobody is refused anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from eris import reference_of
from kapla.coap.frame import Code
from kapla.coap.link import Link
from kapla.coap.put_rate import NO_LIMIT, PutRate, PutRates
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    LARGE,
    SMALL,
    FakeTransport,
    Server,
    parse_messages,
    request_bytes,
)

RATE = 1 << 20
PUT = request_bytes(Code.PUT, BLOCKS_PATH, LARGE)
# With an option more, as the fast lane does not take it.
SLOW_PUT = request_bytes(Code.PUT, [*BLOCKS_PATH, (12, b"\x2a")], LARGE)
GET = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE))])
# What is saved up is that of a second.
AT_ONCE = RATE // len(LARGE)
ALICE, BOB = 1000, 1001

_Peer = tuple[Link, FakeTransport]


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_without_waiting(main)


def server() -> Server:
    clock = asyncio.get_running_loop().time
    return Server(uid=ALICE, put_rates=PutRates(RATE, clock), clock=clock)


def kept(peer: FakeTransport) -> int:
    """How many PUTs were answered."""
    return [one.code for one in parse_messages(bytes(peer.output))].count(Code.CREATED)


def connect(server: Server, uid: int | None) -> _Peer:
    peer, transport = server.connect(uid)
    peer.data_received(b"\x00\xe1")
    return peer, transport


async def until(condition: Callable[[], bool]) -> float:
    """Let time pass; returns when it came true."""
    while not condition():  # noqa: ASYNC110 - on a clock that is moved by waiting
        await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("put", [PUT, SLOW_PUT], ids=["fast", "slow"])
def test_who_puts_more_waits_and_is_read_later(put: bytes) -> None:
    async def main() -> None:
        one = server()
        begin = asyncio.get_running_loop().time()
        one.feed(put * 3 * AT_ONCE)
        await one.settle()
        assert AT_ONCE <= kept(one.transport) <= AT_ONCE + 2
        assert not one.transport.reading
        end = await until(lambda: kept(one.transport) == 3 * AT_ONCE)
        # The first second's worth was saved up; what is beyond took its time, and not much more.
        assert 1.9 < end - begin < 2.2
        assert one.transport.reading
        assert {one.code for one in one.responses()} == {Code.CREATED}

    run(main)


def test_the_others_of_a_user_wait_too_and_other_users_do_not() -> None:
    async def main() -> None:
        one = server()
        second, its = connect(one, ALICE)
        other, others = connect(one, BOB)
        stranger, strangers = connect(one, None)
        one.feed(PUT * 2 * AT_ONCE)
        await one.settle()
        for peer in (second, other, stranger):
            peer.data_received(PUT * 4)
        await one.settle()
        assert [kept(one) for one in (its, others, strangers)] == [0, 4, 4]
        # Those who are not known are one: the next of them waits for the ones before.
        stranger.data_received(PUT * AT_ONCE)
        latest, latests = connect(one, None)
        latest.data_received(PUT)
        await one.settle()
        assert kept(latests) == 0
        await until(lambda: kept(latests) == 1 and kept(its) == 4)

    run(main)


def test_who_waits_is_served_in_turn() -> None:
    async def main() -> None:
        one = server()
        one.feed(PUT * 10 * AT_ONCE)
        await one.settle()
        others = [connect(one, ALICE) for _ in range(5)]
        for peer, _ in others:
            peer.data_received(PUT * 10)
        before = kept(one.transport)
        await until(lambda: all(kept(its) == 10 for _, its in others))
        # The one that put much before did not come first again and again.
        assert kept(one.transport) - before <= 14

    run(main)


def test_nobody_comes_before_those_who_wait() -> None:
    async def main() -> None:
        served: list[str] = []
        rate = PutRate(RATE, asyncio.get_running_loop().time)

        def first() -> None:
            served.append("first")

        def second() -> None:
            served.append("second")

        assert rate.room(first) == RATE >> 10
        rate.took(first, RATE >> 10)
        assert rate.room(first) == rate.room(second) == 0
        rate.wait(first)
        await asyncio.sleep(0.01)
        # There is room again, and the one who waits is about to be called.
        assert served == []
        assert rate.room(second) == 0
        rate.wait(second)
        await asyncio.sleep(0.05)
        # Whoever was called may take its time: the turn is not lost by that.
        assert served == ["first", "second"]
        assert rate.room(first) > 0

    run(main)


def test_gets_are_not_held_up_but_for_those_behind_a_put() -> None:
    async def main() -> None:
        one = server()
        one.feed(PUT * 2 * AT_ONCE)
        await one.settle()
        peer, its = connect(one, ALICE)
        peer.data_received(GET)
        await one.settle()
        assert parse_messages(bytes(its.output))[-1].payload == LARGE
        peer.data_received(PUT + GET)
        await one.settle()
        assert len(parse_messages(bytes(its.output))) == 2
        await until(lambda: len(parse_messages(bytes(its.output))) == 4)

    run(main)


def test_who_goes_while_waiting_leaves_nothing_behind() -> None:
    async def main() -> None:
        one = server()
        one.feed(PUT * 2 * AT_ONCE)
        await one.settle()
        peer, its = connect(one, ALICE)
        peer.data_received(PUT)
        its.abort()
        await until(lambda: kept(one.transport) == 2 * AT_ONCE)
        assert kept(its) == 0
        one.feed(PUT)
        await until(lambda: kept(one.transport) == 2 * AT_ONCE + 1)

    run(main)


def test_small_blocks_and_pieces_count_what_they_have() -> None:
    async def main() -> None:
        one = server()
        begin = asyncio.get_running_loop().time()
        one.feed(request_bytes(Code.PUT, BLOCKS_PATH, SMALL) * 2 * (RATE // 1024))
        await one.settle()
        await until(lambda: kept(one.transport) == 2 * (RATE // 1024))
        assert 0.9 < asyncio.get_running_loop().time() - begin < 1.2

    run(main)


def test_without_a_rate_nobody_waits() -> None:
    rates = PutRates(None)
    for rate in (rates.make(), rates.of(ALICE)):
        rate.took(lambda: None, 1 << 30)
        assert rate.room(lambda: None) == NO_LIMIT


def test_many_users_are_not_remembered_for_ever() -> None:
    now = [0.0]
    rates = PutRates(RATE, lambda: now[0])
    busy = rates.of(1)
    assert busy is not None
    busy.took(lambda: None, 4 * RATE >> 10)
    for uid in range(2, 2000):
        rates.of(uid)
    assert rates.of(1) is busy
    assert len(rates._by_uid) < 600
    now[0] = 10.0
    for uid in range(2000, 3000):
        rates.of(uid)
    assert rates.of(1) is not busy


def test_another_rate_holds_for_those_who_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        rates = PutRates(RATE, loop.time)
        rate, other = rates.of(ALICE), rates.make()
        went: list[float] = []

        def go_on() -> None:
            went.append(loop.time())

        begin = loop.time()
        rate.took(go_on, 100 * RATE >> 10)
        rate.wait(go_on)
        rates.change(100 * RATE)
        # What was taken too much is there in a second, not in a hundred.
        assert 0.9 < await until(lambda: bool(went)) - begin < 1.2
        rates.change(None)
        for one in (rate, other, rates.of(BOB)):
            one.took(go_on, 1 << 40)
            assert one.room(go_on) == NO_LIMIT
        rates.change(RATE)
        for one in (rate, other, rates.of(BOB)):
            assert 0 < one.room(go_on) <= RATE >> 10

    run(main)

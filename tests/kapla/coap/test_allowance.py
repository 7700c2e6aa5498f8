"""What peers are given and told in a second: who has had more waits, and nobody is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from eris import Reference, reference_of
from eris.errors import BlockNotFound
from kapla.coap.allowance import Allowance, Prices
from kapla.coap.beyond import Found, FoundDone
from kapla.coap.fellows import Welcome
from kapla.coap.frame import Code
from kapla.coap.link import Link
from kapla.coap.rate import ByteRate, Rate
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    LARGE,
    SMALL,
    FakeTransport,
    MemoryStorage,
    Server,
    parse_messages,
    request_bytes,
)

RATE = 1 << 17
PER_S, SAVED, PART = 100, 400, 20
PRICES = Prices(hit=1, miss=10)
UNKNOWN = bytes(32)
GET = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE))])
# With an option that the fast lane does not take.
SLOW_GET = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE)), (23, b"\x06")])
GET_SMALL = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(SMALL)), (60, b"\x04\x00")])
GET_UNKNOWN = request_bytes(Code.GET, [*BLOCKS_PATH, (15, UNKNOWN)])
SLOW_GET_UNKNOWN = request_bytes(Code.GET, [*BLOCKS_PATH, (15, UNKNOWN), (23, b"\x06")])
FETCH_10 = request_bytes(Code.FETCH, BLOCKS_PATH, UNKNOWN * 10)
FETCH_10_PRESENT = request_bytes(Code.FETCH, BLOCKS_PATH, reference_of(LARGE) * 10)


class Guests:
    """Gives all who connect one allowance."""

    def __init__(self, server: Server, allowance: Allowance) -> None:
        self._server = server
        self.allowance = allowance

    def welcome(self, link: Link) -> Welcome | None:
        return Welcome(self._server._access, self._server.lane, self.allowance)

    def has_a_place(self, link: Link) -> bool:
        return False

    def may_ask_others(self, link: Link) -> bool:
        return True


def play(main: Callable[[Server], Awaitable[None]], *, given: int | None = None) -> None:
    """Run with a server where there is this rate, or else a budget for presence."""

    async def run() -> None:
        clock = asyncio.get_running_loop().time
        presence = Rate(PER_S, SAVED, PART, clock) if given is None else None
        rate = None if given is None else ByteRate(given, clock)
        await main(
            Server(
                MemoryStorage([SMALL, LARGE]),
                clock=clock,
                guests=lambda server: Guests(server, Allowance(rate, presence, PRICES)),
            )
        )

    run_without_waiting(run)


def answered(transport: FakeTransport) -> list[int]:
    return [one.code for one in parse_messages(bytes(transport.output)) if one.code < Code.CSM]


async def until(condition: Callable[[], bool]) -> float:
    """Let time pass; returns when it came true."""
    while not condition():  # noqa: ASYNC110 - on a clock that is moved by waiting
        await asyncio.sleep(0.05)
    return asyncio.get_running_loop().time()


def test_blocks_are_given_at_the_rate_and_nothing_is_refused() -> None:
    async def main(server: Server) -> None:
        wanted = 3 * RATE // len(LARGE)
        server.feed(GET * wanted)
        await server.settle()
        at_once = len(answered(server.transport))
        assert wanted // 3 <= at_once <= wanted // 3 + 2
        end = await until(lambda: len(answered(server.transport)) == wanted)
        # What a second brings was saved up.
        assert end == pytest.approx(2, abs=0.2)
        assert set(answered(server.transport)) == {Code.CONTENT}

    play(main, given=RATE)


def test_small_blocks_and_pieces_count_what_they_have() -> None:
    async def main(server: Server) -> None:
        server.feed(GET_SMALL * (2 * RATE // len(SMALL)))
        end = await until(lambda: len(answered(server.transport)) == 2 * RATE // len(SMALL))
        assert end == pytest.approx(1, abs=0.2)

    play(main, given=RATE)


def test_what_is_not_there_costs_no_bytes() -> None:
    async def main(server: Server) -> None:
        server.feed(GET_UNKNOWN * 300)
        assert await until(lambda: len(answered(server.transport)) == 300) < 1
        server.feed(GET)
        await server.settle()
        assert answered(server.transport)[-1] == Code.CONTENT

    play(main, given=32 << 10)


@pytest.mark.parametrize("get", [GET, SLOW_GET], ids=["fast", "slow"])
def test_at_the_slowest_rate_a_block_comes_every_second(get: bytes) -> None:
    async def main(server: Server) -> None:
        server.feed(get * 10)
        end = await until(lambda: len(answered(server.transport)) == 10)
        # Two were saved up, and the last but one may be a debt.
        assert 6 <= end <= 9

    play(main, given=32 << 10)


@pytest.mark.parametrize("get", [GET_UNKNOWN, SLOW_GET_UNKNOWN], ids=["fast", "slow"])
def test_misses_draw_on_a_budget(get: bytes) -> None:
    async def main(server: Server) -> None:
        misses = 2 * SAVED // PRICES.miss
        server.feed(get * misses)
        end = await until(lambda: len(answered(server.transport)) == misses)
        assert 2 <= end <= SAVED / PER_S
        assert set(answered(server.transport)) == {Code.NOT_FOUND}

    play(main)


def test_a_fetch_of_what_is_not_here_is_dearer_than_of_what_is() -> None:
    async def main(server: Server) -> None:
        ends = []
        for question in (FETCH_10_PRESENT, FETCH_10):
            begin = asyncio.get_running_loop().time()
            server.feed(question * 20)
            before = len(answered(server.transport))
            end = await until(lambda: len(answered(server.transport)) == before + 20)  # noqa: B023
            ends.append(end - begin)
        # 200 that are here were saved up; 200 that are not cost ten times that.
        assert ends[0] < 1
        assert 10 < ends[1] < 20

    play(main)


def test_questions_in_pieces_cost_what_they_are_about_before_they_are_answered() -> None:
    """Else many could begin at once, and all who share the budget would wait for what they owe."""
    pieces = b"".join(
        request_bytes(Code.FETCH, [*BLOCKS_PATH, (27, bytes([option]))], UNKNOWN * count)
        for option, count in ((0x0C, 8), (0x14, 2))
    )

    async def main(server: Server) -> None:
        server.storage.hold = True
        server.feed(pieces * 30)
        await server.settle()
        begun = server.storage.batches.count(("find", 10))
        assert 1 <= begun <= 1 + SAVED // (10 * PRICES.miss)
        server.storage.hold = False
        server.storage.deliver()
        await until(lambda: answered(server.transport).count(Code.CONTENT) == 30)

    play(main)


def test_blocks_that_come_are_no_secret_and_cost_nothing_of_that_budget() -> None:
    async def main(server: Server) -> None:
        server.feed(GET_SMALL * 2 * SAVED)
        assert await until(lambda: len(answered(server.transport)) == 2 * SAVED) < 1

    play(main)


def test_those_who_share_an_allowance_wait_in_turn() -> None:
    async def main(server: Server) -> None:
        greedy = server.transport
        server.feed(GET_UNKNOWN * 4 * SAVED)
        await server.settle()
        others = [server.connect(None) for _ in range(3)]
        for link, _ in others:
            link.data_received(b"\x00\xe1" + GET_UNKNOWN * 5)
        before = len(answered(greedy))
        await until(lambda: all(len(answered(its)) == 5 for _, its in others))
        # The one that asks for ever does not come first again and again.
        assert len(answered(greedy)) - before < 40

    play(main)


def test_who_goes_while_waiting_leaves_nothing_behind() -> None:
    async def main(server: Server) -> None:
        server.feed(GET_UNKNOWN * SAVED)
        await server.settle()
        link, its = server.connect(None)
        link.data_received(b"\x00\xe1" + GET_UNKNOWN)
        its.abort()
        await until(lambda: len(answered(server.transport)) == SAVED)
        assert answered(its) == []

    play(main)


def test_it_is_counted_what_was_given() -> None:
    allowance = Allowance(None, None, PRICES)

    async def main() -> None:
        server = Server(
            MemoryStorage([SMALL, LARGE]), guests=lambda server: Guests(server, allowance)
        )
        server.feed(GET + GET_SMALL + GET_UNKNOWN + SLOW_GET_UNKNOWN)
        await until(lambda: len(answered(server.transport)) == 4)

    run_without_waiting(main)
    assert (allowance.blocks, allowance.block_bytes) == (2, len(LARGE) + len(SMALL))


def test_what_others_have_is_given_and_what_nobody_has_is_a_miss() -> None:
    async def main() -> None:
        presence = Rate(PER_S, SAVED, PART, asyncio.get_running_loop().time)
        allowance = Allowance(None, presence, PRICES)

        def left() -> int:
            return presence.room(lambda: None)

        class Others:
            """Have the large block."""

            def fetch(
                self, reference: Reference, hops: int, asker: object, done: FoundDone
            ) -> None:
                is_known = reference == reference_of(LARGE)
                done(Found(LARGE, False, "x") if is_known else BlockNotFound(reference))

            async def find(
                self, references: Sequence[Reference], hops: int, asker: object
            ) -> list[bool]:
                return [False for _ in references]

            def reaches(self, hops: int) -> bool:
                return hops > 0

            def leave(self, asker: object) -> None:
                pass

        server = Server(
            MemoryStorage([SMALL]),
            guests=lambda server: Guests(server, allowance),
            beyond=Others(),
        )
        before = left()
        server.feed(GET + GET_SMALL + SLOW_GET)
        await until(lambda: len(answered(server.transport)) == 3)
        assert left() == before
        assert (allowance.blocks, allowance.block_bytes) == (3, 2 * len(LARGE) + len(SMALL))
        server.feed(GET_UNKNOWN + GET + SLOW_GET_UNKNOWN)
        await server.settle()
        assert left() == before - 2 * PRICES.miss
        assert allowance.blocks == 4

    run_without_waiting(main)

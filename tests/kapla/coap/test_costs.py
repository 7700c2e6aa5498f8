"""What requests cost the event loop, relative to a GET of a block, for each byte that is sent.

Counted in calls of functions, which are the same on every machine. What costs many times as much as
a GET has to be paid for: it goes through the slow lane, whose time is measured and waited for.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import FrameType

import pytest

from eris import reference_of
from eris.errors import StoreFull
from kapla.coap.frame import Code
from kapla.coap.merit import Rank
from kapla.storage.access import PutDone, Wanted, always
from kapla.storage.sqlite.keeping.state import Hold
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    LARGE,
    SMALL,
    MemoryStorage,
    Server,
    request_bytes,
)

NAME = (15, reference_of(SMALL))
GET = request_bytes(Code.GET, [*BLOCKS_PATH, NAME, (60, b"\x04\x00")])
COUNT = 30
# So little that nobody has to wait.
A_CALL_S = 1e-9
PINS: list[tuple[int, bytes]] = [(11, b".well-known"), (11, b"eris"), (11, b"pins")]

# The request, and the most that a byte of it may cost: times what a byte of a GET costs.
KINDS: dict[str, tuple[bytes, float]] = {
    "get": (GET, 1.01),
    "get of a large block": (
        request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference_of(LARGE)), (60, b"\x80\x00")]),
        1.5,
    ),
    "get of what is not there": (request_bytes(Code.GET, [*BLOCKS_PATH, (15, bytes(32))]), 1.5),
    "put": (request_bytes(Code.PUT, BLOCKS_PATH, SMALL), 0.2),
    "put of a large block": (request_bytes(Code.PUT, BLOCKS_PATH, LARGE), 0.02),
    "get with an option more": (request_bytes(Code.GET, [*BLOCKS_PATH, NAME, (17, b"\x2a")]), 20),
    "piece of a block": (request_bytes(Code.GET, [*BLOCKS_PATH, NAME, (23, b"\x08")]), 25),
    "piece of a put": (request_bytes(Code.PUT, [*BLOCKS_PATH, (27, b"\x0e")], SMALL), 1),
    "fetch of one": (request_bytes(Code.FETCH, BLOCKS_PATH, bytes(32)), 15),
    "fetch of a thousand": (request_bytes(Code.FETCH, BLOCKS_PATH, bytes(1024) * 32), 0.1),
    "nothing": (request_bytes(Code.GET), 60),
    "unknown path": (request_bytes(Code.GET, [(11, b"nothing")]), 25),
    "unknown method": (request_bytes(9), 30),
    "malformed": (b"\x11\x01t\xf0", 30),
    "many options": (request_bytes(Code.GET, [(15, b"x")] * 60), 20),
    "discovery": (request_bytes(Code.GET, [(11, b".well-known"), (11, b"core")]), 35),
    "pins": (request_bytes(Code.GET, [(11, b"pins")]), 50),
    "a pin is opened": (request_bytes(Code.POST, [*PINS, (11, b"open")]), 90),
    "and is open already": (request_bytes(Code.POST, [*PINS, (11, b"open")], b"\xa0"), 90),
    "what is in no pin": (request_bytes(Code.FETCH, [*PINS, (11, b"open")], bytes(32)), 50),
    "many references in no pin": (
        request_bytes(Code.FETCH, [*PINS, (11, b"open")], bytes(1024) * 32),
        0.1,
    ),
    "a pin that is not there": (
        request_bytes(Code.POST, [*PINS, (11, b"release")], b"\xa1\x64name\x61x"),
        60,
    ),
    "a map that is no map": (request_bytes(Code.POST, [*PINS, (11, b"close")], b"x"), 50),
    "a map of much": (
        request_bytes(Code.POST, [*PINS, (11, b"close")], b"\xa1\x61x" + b"\x81" * 9999 + b"\x00"),
        20,
    ),
    "stat": (request_bytes(Code.GET, [(11, b"kapla"), (11, b"stat")]), 45),
}
# Beyond this a byte costs so much more that it must be paid for.
DEAR = 3


def cost(request: bytes) -> tuple[float, float]:
    """Calls for each byte of a request, and the part of the calls that was paid for."""
    calls = paid = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    async def run() -> None:
        nonlocal paid
        server = Server(MemoryStorage([SMALL, LARGE]), uid=1000)
        assert server.peer.answering is not None
        turn = server.peer.answering.turn
        took = turn.took_slowly

        def took_slowly(seconds: float, now: float) -> None:
            nonlocal paid
            paid += round(seconds / A_CALL_S)
            took(0.0, 0.0)

        # Its clock is what is counted.
        turn.took_slowly = took_slowly  # type: ignore[method-assign]
        turn.clock = lambda: calls * A_CALL_S
        await server.settle()
        sys.setprofile(count)
        try:
            for _ in range(COUNT):
                before = len(server.transport.output)
                server.feed(request)
                while len(server.transport.output) == before:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        finally:
            sys.setprofile(None)

    asyncio.run(run())
    return calls / COUNT / len(request), paid / calls


@pytest.fixture(scope="module")
def a_get() -> float:
    cost(GET)  # what is done the first time only
    return cost(GET)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_costs_much_that_is_not_paid_for(a_get: float, kind: str) -> None:
    request, bound = KINDS[kind]
    cost(request)
    for_each_byte, paid = cost(request)
    assert for_each_byte / a_get <= bound
    # The rest is reading, writing, and the loop of this test.
    assert paid > 0.2 or for_each_byte / a_get <= DEAR


class _FullButForOne(MemoryStorage):
    def put_many(
        self,
        blocks: Sequence[bytes],
        done: PutDone,
        wanted: Wanted = always,
        group: object = None,
        hold: Hold | None = None,
    ) -> None:
        self._later(lambda: done([None, *[StoreFull("full")] * (len(blocks) - 1)]))


def test_blocks_that_are_kept_are_of_use_beside_others_that_are_not() -> None:
    async def run() -> None:
        server = Server(_FullButForOne(), clock=lambda: 0.0)
        server.feed(request_bytes(Code.PUT, BLOCKS_PATH, SMALL) * 3)
        await server.settle()
        assert [answer.code for answer in server.responses()].count(Code.CREATED) == 1
        server.feed(request_bytes(Code.GET, [(11, b"nothing")]))
        assert server.line.groups[Rank.USEFUL].served_at > float("-inf")

    asyncio.run(run())

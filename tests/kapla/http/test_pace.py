"""When connections by HTTP go on: turns that do not come all at once, rates that are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kapla.coap.allowance import Allowance, Prices
from kapla.coap.rate import ByteRate, Rate
from kapla.coap.turns import Line, Turn
from kapla.http.turns.pace import Pace
from tests.clocks import run_without_waiting
from tests.kapla.coap.test_turns import Loop

A_REQUEST_S = 0.0005


class Asker:
    """A connection that always asks. The work is done by a task, some time after its turn."""

    def __init__(self, loop: Loop, line: Line, allowance: Allowance | None = None) -> None:
        self._loop = loop
        self.served = 0
        self.pace = Pace(line, allowance, lambda: None, lambda: False)
        self._task = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        while True:
            await self.pace.room(1)
            with self.pace.turn:
                self._loop.worked += A_REQUEST_S
            self.pace.settle()
            self.served += 1
            # The store looks it up.
            await asyncio.sleep(0.0001)

    def leave(self) -> None:
        self._task.cancel()
        self.pace.leave()


class Local:
    """A program of this machine, by CoAP: it asks, is answered, and asks again."""

    def __init__(self, loop: Loop, line: Line) -> None:
        self._loop = loop
        self.served = 0
        self.longest_s = 0.0
        self._since = loop.clock()
        self._next: asyncio.Handle = asyncio.get_running_loop().call_soon(self.serve)
        self.turn = Turn(line, self.serve)

    def serve(self) -> None:
        if self.turn.may_go_on():
            with self.turn:
                self._loop.worked += 0.0001
            self.served += 1
            self.longest_s = max(self.longest_s, self._loop.clock() - self._since)
            self._since = self._loop.clock()
            self._next = asyncio.get_running_loop().call_soon(self.serve)

    def leave(self) -> None:
        self._next.cancel()
        self.turn.leave()


def play(scene: Callable[[Loop], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene(Loop())

    run_without_waiting(main)


def test_a_crowd_by_http_leaves_local_programs_half_of_the_time() -> None:
    async def scene(loop: Loop) -> None:
        crowd_line, line = loop.turns.line(), loop.turns.line()
        local = Local(loop, line)
        await asyncio.sleep(0)
        crowd = [Asker(loop, crowd_line) for _ in range(40)]
        await asyncio.sleep(0.3)
        # The first go of all is the only one that is long: nobody had been there.
        local.longest_s = 0
        before = loop.clock(), local.served
        await asyncio.sleep(0.3)
        seconds, served = loop.clock() - before[0], local.served - before[1]
        assert served * 0.0001 > 0.45 * seconds
        assert local.longest_s < 0.02
        # And all of the crowd are served, in turn.
        counts = [one.served for one in crowd]
        assert min(counts) > 0
        assert max(counts) - min(counts) <= max(4, max(counts) // 2)
        local.leave()
        for one in crowd:
            one.leave()

    play(scene)


def test_turns_of_those_who_wait_do_not_come_all_at_once() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        paces = [Pace(line, None, lambda: None, lambda: False) for _ in range(100)]
        # Beside somebody else they have had enough for a while.
        with Turn(loop.turns.line(), lambda: None):
            loop.worked += 0.001
        with paces[0].turn:
            loop.worked += 0.01
        waiting = [asyncio.ensure_future(one.room(0)) for one in paces[1:]]
        most = before = 0
        while not all(one.done() for one in waiting):
            await asyncio.sleep(0.0001)
            done = sum(one.done() for one in waiting)
            most, before = max(most, done - before), done
        assert 0 < most <= 8
        for one in paces:
            one.leave()

    play(scene)


def test_what_is_asked_counts_until_it_is_known_and_no_longer() -> None:
    async def scene(loop: Loop) -> None:
        presence = Rate(1e-3, 320.0, 320, loop.clock)
        allowance = Allowance(ByteRate(1 << 20, loop.clock), presence, Prices(1, 16))
        line = loop.turns.line()
        first, second = (Pace(line, allowance, lambda: None, lambda: False) for _ in range(2))
        # All of it might be missing: there is room for twenty, and then for nobody.
        assert await first.room(64) == 20
        waiting = asyncio.ensure_future(second.room(5))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.settle()
        assert await waiting == 5
        second.settle()
        second.gave(4, 4 * 1024, 1)
        first.told(2, 1)
        # One and one were missing, and two that are here were told of.
        assert presence.room(lambda: None) == 320 - 16 - 18
        assert allowance.blocks == 4
        # Whoever leaves with a question under way has used up nothing.
        assert await second.room(3) == 3
        second.leave()
        assert presence.room(lambda: None) == 320 - 16 - 18
        first.leave()

    play(scene)


def test_one_who_has_left_while_waiting_holds_nobody_up() -> None:
    async def scene(loop: Loop) -> None:
        presence = Rate(1000.0, 32.0, 32, loop.clock)
        allowance = Allowance(None, presence, Prices(1, 16))
        line = loop.turns.line()
        paces = [Pace(line, allowance, lambda: None, lambda: False) for _ in range(3)]
        assert await paces[0].room(2) == 2
        waiting = [asyncio.ensure_future(one.room(1)) for one in paces[1:]]
        await asyncio.sleep(0)
        waiting[0].cancel()
        paces[1].leave()
        assert await waiting[1] == 1
        for one in paces:
            one.leave()

    play(scene)

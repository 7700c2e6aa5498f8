"""Shares of the event loop's time, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import pytest

from kapla.coap.turns import Line, Turn, Turns
from tests.clocks import run_without_waiting


class Loop:
    """The running loop, whose time passes while it waits, and by work that is done on it."""

    def __init__(self) -> None:
        self.worked = 0.0
        loop = asyncio.get_running_loop()
        self._waited = loop.time
        loop.time = self.clock  # type: ignore[method-assign]
        self.turns = Turns(self.clock)

    def clock(self) -> float:
        return self._waited() + self.worked

    async def go_on_until(self, end: float) -> None:
        """Let others work: nothing announces that the time has come."""
        while self.clock() < end:  # noqa: ASYNC110
            await asyncio.sleep(0)


class Greedy:
    """A connection that always has work waiting, `cost_s` for each piece."""

    def __init__(
        self, loop: Loop, line: Line, cost_s: float, *, slow: bool = False, owes_s: float = 0
    ) -> None:
        self.took = 0.0
        self._owes_s = owes_s
        self._loop = loop
        self._cost_s = cost_s
        self._slow = slow
        self._gone = False
        self.turn = Turn(line, self.serve)

    def serve(self) -> None:
        """Work as long as it may; the turn comes again by itself."""
        if not self._slow:
            self._serve_once()
            return
        with self.turn:
            while self.turn.may_go_on() and self.turn.may_go_slowly():
                with self.turn.slowly:
                    self._work()

    def _serve_once(self) -> None:
        if not self._gone and self.turn.may_go_on():
            with self.turn:
                self._work()
            # It is answered, and asks again.
            asyncio.get_running_loop().call_soon(self.serve)

    def _work(self) -> None:
        self._loop.worked += self._cost_s
        self.took += self._cost_s
        if self._owes_s:
            self.turn.owes(self._owes_s)

    def leave(self) -> None:
        self._gone = True
        self.turn.leave()


class Modest:
    """A connection that works a little, and then waits for something else."""

    def __init__(self, loop: Loop, line: Line) -> None:
        self.served = 0
        self._loop = loop
        self.turn = Turn(line, self.serve)

    def serve(self) -> None:
        with self.turn:
            if self.turn.may_go_on():
                self._loop.worked += 0.0001
                self.served += 1

    async def keep_asking(self, until: float) -> None:
        while self._loop.clock() < until:
            self.serve()
            await asyncio.sleep(0.0002)


def play(scene: Callable[[Loop], Awaitable[None]]) -> None:
    async def begin() -> None:
        await scene(Loop())

    run_without_waiting(begin)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("count", [1, 50])
def test_strangers_leave_half_of_the_time(slow: bool, count: int) -> None:
    async def scene(loop: Loop) -> None:
        strangers = loop.turns.line()
        modest = Modest(loop, loop.turns.line())
        crowd = [Greedy(loop, strangers, 0.0003, slow=slow) for _ in range(count)]
        modest.serve()
        begin = loop.clock()
        for one in crowd:
            one.serve()
        await modest.keep_asking(begin + 1)
        took = sum(one.took for one in crowd)
        assert 0.15 < took < 0.55
        # They go on in turn.
        if count > 1:
            assert max(one.took for one in crowd) < 5 * took / count
        assert modest.served > 1000

    play(scene)


def test_what_the_store_does_for_a_listener_is_waited_for_too() -> None:
    async def scene(loop: Loop) -> None:
        modest = Modest(loop, loop.turns.line())
        greedy = Greedy(loop, loop.turns.line(), 0.0003, owes_s=0.0006)
        modest.serve()
        begin = loop.clock()
        greedy.serve()
        await modest.keep_asking(begin + 1)
        # Twice as long as it took, and as long again.
        assert 0.15 < greedy.took < 0.25

    play(scene)


def test_nothing_is_owed_to_nobody() -> None:
    async def scene(loop: Loop) -> None:
        greedy = Greedy(loop, loop.turns.line(), 0.0003, slow=True, owes_s=0.0006)
        begin = loop.clock()
        greedy.serve()
        await loop.go_on_until(begin + 1)
        assert greedy.took > 0.95

    play(scene)


def test_a_slow_connection_leaves_three_quarters_of_the_time() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        modest, greedy = Modest(loop, line), Greedy(loop, line, 0.0003, slow=True)
        modest.serve()
        begin = loop.clock()
        greedy.serve()
        await modest.keep_asking(begin + 1)
        assert 0.15 < greedy.took < 0.3
        assert modest.served > 1000

    play(scene)


def test_one_dear_request_is_waited_for() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        modest, greedy = Modest(loop, line), Greedy(loop, line, 0.05, slow=True)
        modest.serve()
        begin = loop.clock()
        greedy.serve()
        assert greedy.took == pytest.approx(0.05)
        await modest.keep_asking(begin + 0.19)
        assert greedy.took == pytest.approx(0.05)
        await modest.keep_asking(begin + 0.25)
        assert greedy.took == pytest.approx(0.1)

    play(scene)


def test_who_is_alone_waits_for_nobody() -> None:
    async def scene(loop: Loop) -> None:
        greedy = Greedy(loop, loop.turns.line(), 0.0003, slow=True)
        begin = loop.clock()
        greedy.serve()
        # Others could come: the loop is let go on now and then.
        assert 0.003 < loop.clock() - begin < 0.01
        await loop.go_on_until(begin + 1)
        assert greedy.took > 0.95

    play(scene)


def test_those_who_came_before_are_forgotten() -> None:
    async def scene(loop: Loop) -> None:
        first, second = loop.turns.line(), loop.turns.line()
        Modest(loop, first).serve()
        loop.worked += 0.2
        greedy = Greedy(loop, second, 0.0003, slow=True)
        begin = loop.clock()
        greedy.serve()
        await loop.go_on_until(begin + 1)
        assert greedy.took > 0.95

    play(scene)


def test_who_leaves_is_not_served_any_more() -> None:
    async def scene(loop: Loop) -> None:
        line, other = loop.turns.line(), Modest(loop, loop.turns.line())
        crowd = [Greedy(loop, line, 0.0003, slow=slow) for slow in (False, True) for _ in range(5)]
        other.serve()
        for one in crowd:
            one.serve()
        for one in crowd:
            one.leave()
        took = [one.took for one in crowd]
        await other.keep_asking(loop.clock() + 0.1)
        assert [one.took for one in crowd] == took
        assert not line.is_waited_in

    play(scene)


class Useful(Modest):
    """A modest connection over which a block goes each time."""

    def serve(self) -> None:
        with self.turn:
            if self.turn.may_go_on():
                self._loop.worked += 0.0001
                self.served += 1
                self.turn.gave(1)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("is_other_listener_there", [False, True])
def test_a_useless_crowd_leaves_most_of_a_listener_to_who_is_useful(
    slow: bool, is_other_listener_there: bool
) -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        useful, local = Useful(loop, line), Modest(loop, loop.turns.line())
        crowd = [Greedy(loop, line, 0.0003, slow=slow) for _ in range(200)]
        useful.serve()
        begin = loop.clock()
        for one in crowd:
            one.serve()
        if is_other_listener_there:
            await asyncio.gather(useful.keep_asking(begin + 1), local.keep_asking(begin + 1))
        else:
            await useful.keep_asking(begin + 1)
        took = sum(one.took for one in crowd)
        assert useful.served > 800
        # Nobody waits for ever.
        assert 0.1 < took < 0.4

    play(scene)


def test_a_good_question_in_a_hundred_is_of_no_use() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        bad = Useful(loop, line)
        for _ in range(100):
            with bad.turn:
                loop.worked += 0.00003
            bad.turn.gave(0, 1)
        bad.turn.gave(1)
        assert bad.turn.group.is_lower

    play(scene)


def test_who_is_alone_and_useless_waits_for_nobody() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        greedy = Greedy(loop, line, 0.0003)
        greedy.turn.gave(100)
        begin = loop.clock()
        greedy.serve()
        await loop.go_on_until(begin + 1)
        assert greedy.took > 0.95

    play(scene)


class Asking(Greedy):
    """A greedy connection whose requests the store works on, each for a while."""

    under_way = 0
    most = 0

    def __init__(self, loop: Loop, line: Line, look_s: float) -> None:
        super().__init__(loop, line, 0.0005)
        self._look_s = look_s

    def _work(self) -> None:
        super()._work()
        look = self.turn.group.looking(0.0)
        look.__enter__()
        Asking.under_way += 1
        Asking.most = max(Asking.most, Asking.under_way)
        asyncio.get_running_loop().call_later(self._look_s, self._end, look)

    def _end(self, look: AbstractContextManager[None]) -> None:
        Asking.under_way -= 1
        self.took += self._look_s
        look.__exit__(None, None, None)


def ask_beside(loop: Loop, line: Line, look_s: float) -> list[Asking]:
    """Two hundred who ask the store for much."""
    Asking.under_way = Asking.most = 0
    crowd = [Asking(loop, line, look_s) for _ in range(200)]
    for one in crowd:
        one.serve()
    return crowd


def test_the_store_looks_up_for_one_at_a_time_of_those_who_are_worth_less() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        useful = Useful(loop, line)
        useful.serve()
        crowd = ask_beside(loop, line, 0.002)
        await useful.keep_asking(loop.clock() + 1)
        # The first ones come as new ones, and those that were found useless beside them.
        assert 0 < Asking.most <= 4
        assert 0.05 < sum(one.took for one in crowd) < 0.4
        for one in crowd:
            one.leave()

    play(scene)


def test_a_group_does_not_wait_for_ever_for_the_store() -> None:
    async def scene(loop: Loop) -> None:
        line = loop.turns.line()
        useful, patient = Useful(loop, line), Modest(loop, line)
        useful.serve()
        with patient.turn.group.looking(0.0):
            patient.serve()
            assert not patient.served
            await useful.keep_asking(loop.clock() + 0.5)
            assert patient.served

    play(scene)


def test_who_is_alone_has_the_store_look_up_at_once_for_all() -> None:
    async def scene(loop: Loop) -> None:
        crowd = ask_beside(loop, loop.turns.line(), 0.5)
        await loop.go_on_until(loop.clock() + 0.4)
        assert Asking.most > 100
        for one in crowd:
            one.leave()

    play(scene)

"""Whose turn it is: the event loop's time, shared among listeners and among connections.

All requests are read, sorted and answered by one event loop, and what a request costs there has
little to do with its length. So time is what is shared. It is measured, and who took some while
others are there too waits before it goes on:

* a listener as long again, with all its connections: what comes for them is not even read. Those
  that have something waiting go on in turn, whoever had least of late first. So strangers on TCP,
  however many they are, leave half of the time to the programs of this machine;
* within a listener, those over whose connections no blocks go seven times as long, together, while
  there are some over whose blocks go (`merit.py`, `lines.py`): so a crowd that asks for nothing
  useful leaves most of the time to those who do;
* a connection three times as long, for its requests in the slow lane. What the fast lane takes is
  small beside what the store does for it; for the blocks that are put, which the store has most
  to do with, the listener waits as if the event loop had done it.

While nobody else is there, nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from kapla.coap.lines import MOMENT_S, PRESENT_S, SLICE_S, Line
from kapla.coap.merit import Merit

__all__ = ["Line", "Turn", "Turns"]

# How long a connection pauses, in terms of what it took in the slow lane: the store's threads want
# the interpreter too, and get it last.
_SLOW_PAUSE: Final = 3
# The longest that anybody goes on while nobody else is there: somebody may be about to come.
_LONGEST_S: Final = 0.004
# How much is looked at in one go, in bytes: while those of another listener are there too, and of
# those who are worth less than others who are there.
_READ_AT_ONCE: Final = 64 * 1024
_READ_OF_LESS_WORTH: Final = 8 * 1024


class Turns:
    """Shares the time of the running event loop.

    `clock`: seconds, as exact as can be.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._lines: list[Line] = []
        self._plan: asyncio.TimerHandle | None = None
        self._planned_at = 0.0
        self._is_marked = False
        # The two that were served last, so that everybody can see whether another was.
        self._last: tuple[Turn | None, float] = (None, 0.0)
        self._before: tuple[Turn | None, float] = (None, 0.0)

    def line(self) -> Line:
        """A place for the connections of one more listener."""
        line = Line(self)
        self._lines.append(line)
        return line

    def note(self, turn: Turn, now: float) -> None:
        """Somebody was served."""
        if self._last[0] is not turn:
            self._before = self._last
        self._last = (turn, now)

    def mark(self) -> None:
        """Tell the lines when the event loop begins anew."""
        if not self._is_marked:
            self._is_marked = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_marked = False
        for line in self._lines:
            line.begin()

    def forget(self, turn: Turn) -> None:
        """Somebody has gone."""
        if self._before[0] is turn:
            self._before = (None, 0.0)
        if self._last[0] is turn:
            self._last, self._before = self._before, (None, 0.0)

    def is_anybody_beside(self, turn: Turn, now: float) -> bool:
        """Whether another connection was served a moment ago."""
        who, when = self._before if self._last[0] is turn else self._last
        return who is not None and now - when < PRESENT_S

    def is_any_line_beside(self, line: Line, now: float) -> bool:
        """Whether another listener's connections were served a moment ago."""
        for other in self._lines:
            if other is line:
                continue
            if now - other.served_at < PRESENT_S:
                return True
        return False

    def plan(self) -> None:
        """See to it that those who wait go on when they may."""
        times = [at for at in (line.next_at() for line in self._lines) if at is not None]
        soonest = min(times, default=None)
        if soonest is None or (self._plan is not None and self._planned_at <= soonest):
            return
        if self._plan is not None:
            self._plan.cancel()
        self._planned_at = soonest
        pause = max(0.0, soonest - self.clock())
        self._plan = asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._plan = None
        for line in self._lines:
            line.go_on()
        # Whoever was first is last the next time.
        self._lines.append(self._lines.pop(0))
        self.plan()


class Turn:
    """One connection's part in it. As a context it measures what is done for the connection.

    `serve` is called when the connection may go on after having waited, unless `is_gone` says that
    nobody is there any more. `slowly` is a context too, inside the other or not, for what is done
    in the slow lane.
    """

    def __init__(
        self, line: Line, serve: Callable[[], None], is_gone: Callable[[], bool] = lambda: False
    ) -> None:
        self.slowly = _Slowly(self)
        self.clock = line.turns.clock
        self._line = line
        self._turns = line.turns
        self._serve = serve
        self._is_gone = is_gone
        self.merit = Merit()
        self.group = line.groups[self.merit.rank]
        """Those who are worth as much, and share with it."""
        self.had = self.group.served_had
        """What it took, or as much as whoever was served when it came to wait."""
        self._is_in_line = False
        self._turn_until = float("-inf")
        self._pause: asyncio.TimerHandle | None = None
        self._depth = 0
        self._begin = 0.0
        # When it has waited long enough for what it took in the slow lane.
        self._slow_until = float("-inf")

    def __enter__(self) -> None:
        if not self._depth:
            self._begin = self.clock()
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if not self._depth:
            now = self.clock()
            self._turns.note(self, now)
            self._took(now - self._begin, now)

    def _took(self, seconds: float, now: float) -> None:
        self.had += seconds
        self._line.took(seconds, now)
        self.group.took(self, seconds, now)
        self.merit.took(seconds)
        if self.merit.rank is not self.group.rank:
            self._change_groups()

    def gave(self, blocks: int, missing: int = 0) -> None:
        """So many blocks went over the connection, and so many that it asked for were missing."""
        self.merit.gave(blocks, missing)
        if self.merit.rank is not self.group.rank:
            self._change_groups()

    def _change_groups(self) -> None:
        if self._is_in_line:
            self.group.leave(self)
        self.group.forget(self)
        self.group = self._line.groups[self.merit.rank]
        # Whatever it had was counted elsewhere.
        self.had = self.group.served_had
        if self._is_in_line:
            self._stand_in_line()

    def at_once(self, size: int) -> int:
        """How many of so many bytes are to be looked at in one go."""
        if size <= _READ_OF_LESS_WORTH:
            return size
        now = self.clock()
        if self._line.is_any_better(self.group, now):
            return _READ_OF_LESS_WORTH
        return _READ_AT_ONCE if self._turns.is_any_line_beside(self._line, now) else size

    def may_go_on(self) -> bool:
        """Whether requests may be taken now. If not, the turn comes by itself."""
        if self._is_in_line:
            return False
        if self._line.may_go_on(self) or self.clock() < self._turn_until:
            return True
        self._stand_in_line()
        return False

    def may_go_slowly(self) -> bool:
        """Whether a request may be taken into the slow lane. If not, the turn comes by itself."""
        now = self.clock()
        pause = self._slow_until - SLICE_S - now
        if pause < MOMENT_S:
            return True
        if not self._turns.is_anybody_beside(self, now):
            if now - self._begin < _LONGEST_S:
                return True
            pause = 0
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(pause, self._paused)
        return False

    def leave(self) -> None:
        """The connection has gone."""
        if self._pause is not None:
            self._pause.cancel()
        if self._is_in_line:
            self._is_in_line = False
            self.group.leave(self)
        self.group.forget(self)
        self._turns.forget(self)

    def drop_if_gone(self) -> bool:
        """Whether nobody is there any more; then it waits no longer."""
        gone = self._is_gone()
        self._is_in_line = self._is_in_line and not gone
        return gone

    def go_on(self) -> None:
        """Take the turn, for a slice of time."""
        self._is_in_line = False
        self._turn_until = self.clock() + SLICE_S
        try:
            self._serve()
        finally:
            self._turn_until = float("-inf")

    def took_slowly(self, seconds: float, now: float) -> None:
        """Some time went into its requests in the slow lane."""
        begin = now - seconds
        until = max(self._slow_until, begin - SLICE_S)
        if not self._turns.is_anybody_beside(self, now):
            # However much it was while nobody else was there: that is not held against it.
            until = min(until, begin + SLICE_S)
        self._slow_until = until + (1 + _SLOW_PAUSE) * seconds

    def owes(self, seconds: float) -> None:
        """The store's threads will take so much, beside the event loop: the listener waits."""
        self._line.owes(seconds, self.clock())

    def will_take(self, seconds: float) -> None:
        """What begins in this turn will take so much of the event loop, when that comes to it.

        It is measured then, too; counted now, so that the next turn does not come at once.
        """
        self._line.will_take(seconds, self.clock())

    def took_elsewhere(self, seconds: float) -> None:
        """A request in the slow lane takes some time of other threads."""
        self._slow_until += (1 + _SLOW_PAUSE) * seconds
        self._took(seconds, self.clock())

    def _stand_in_line(self) -> None:
        self._is_in_line = True
        self.group.join(self)
        self._turns.plan()

    def _paused(self) -> None:
        self._pause = None
        if self.may_go_on():
            self._serve()


class _Slowly:
    """The context of what is done in the slow lane."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._depth = 0
        self._begin = 0.0

    def __enter__(self) -> None:
        if not self._depth:
            self._begin = self._turn.clock()
        self._depth += 1
        self._turn.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turn.__exit__(kind, error, traceback)
        self._depth -= 1
        if not self._depth:
            now = self._turn.clock()
            self._turn.took_slowly(now - self._begin, now)

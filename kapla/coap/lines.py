"""The connections of one listener, in groups by their rank, and which of them is next.

The groups of those who are worth more to others go before those who are worth less, and none has
all: what a group had is counted, the lower ones' several times over, and whoever had least is next.
Time that a group does not use falls to those who are worth more.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from kapla.coap.merit import Rank

if TYPE_CHECKING:
    from kapla.coap.turns import Turn, Turns

__all__ = ["MOMENT_S", "PRESENT_S", "SLICE_S", "Group", "Line"]

PRESENT_S: Final = 0.1
"""How long somebody counts as being there after having been served."""

SLICE_S: Final = 0.001
"""What may be taken at once before anybody waits. The event loop's timers are no finer."""

MOMENT_S: Final = 1e-6
"""Not worth a timer."""

# How long a listener pauses, in terms of what it took; and the group of those who are worth less:
# beside what is counted each of its goes keeps others from what they had begun.
_PAUSE: Final = 1
_LOWER_PAUSE: Final = 7
# The most that is owed by those who took little at a time.
_MOST_OWED_S: Final = 0.01
# The longest that a listener's turn does not come; a group's: as many times as it pauses.
_LONGEST_WAIT_S: Final = 0.02
# How long a group waits at most for what the store looks up for one of it.
_LONGEST_LOOK_S: Final = 0.1
# How much sooner somebody is served who comes back, in terms of what the others had meanwhile.
_SAVED_S: Final = 0.002
# The most that a group is given in one go of the event loop, which others are to see in time.
_AT_ONCE_S: Final = 0.01
# From there on it is seen to that a new go is noticed.
_MARK_S: Final = 0.005


class Waiting(Protocol):
    """Who waits for a turn."""

    had: float
    """What it took, or as much as whoever was served when it came to wait."""

    def drop_if_gone(self) -> bool:
        """Whether nobody is there any more; then it waits no longer."""
        ...

    def go_on(self) -> None:
        """Take the turn."""
        ...


class Debt:
    """When those have waited long enough who took some time."""

    def __init__(self, pause: float) -> None:
        self.free_at = float("-inf")
        self._pause = pause

    def is_paid(self, now: float) -> bool:
        """Whether they have."""
        return self.free_at < now + MOMENT_S

    def took(self, seconds: float, now: float) -> None:
        """Some time was taken while others were there too."""
        # What was not taken before is saved up, but not for long.
        begin = now - seconds
        free_at = max(self.free_at, begin - SLICE_S) + (1 + self._pause) * seconds
        # Those who come now are not to pay for all that others took.
        self.free_at = min(free_at, now + max(self._pause * seconds, _MOST_OWED_S))


class Group:
    """Those of a listener who are worth the same."""

    def __init__(self, line: Line, rank: Rank) -> None:
        self.line = line
        self.rank = rank
        self.waiting = 0
        """How many wait."""
        self.served_at = float("-inf")
        self._served: Waiting | None = None
        self.debt = Debt(_LOWER_PAUSE)
        self.held_until = float("-inf")
        """It waits for what the store looks up for one of it, but no longer."""
        self._looks = 0
        self.had = 0.0
        """What it took, as often as it counts, or as much as others when it came."""
        self.at_once = 0.0
        """What it took in this go of the event loop, and maybe before it."""
        self.served_had = 0.0
        """What the one had that was served last."""
        self.went_on_at = float("-inf")
        self.is_lower = rank is not Rank.USEFUL
        self._counts = _LOWER_PAUSE if self.is_lower else 1
        # Whoever had least of late is first.
        self._heap: list[tuple[float, int, Waiting]] = []
        self._numbers = itertools.count()

    def took(self, turn: Waiting, seconds: float, now: float) -> None:
        """Some of the loop's time went into one of its connections."""
        line, had = self.line, self.had
        self.served_at = now
        self._served = turn
        # Plain comparisons: this is done for every read and every answer.
        if had < line.had - _SAVED_S:
            had = line.had - _SAVED_S
        if line.had < had:
            line.had = had
        self.had = had + self._counts * seconds
        self.at_once += seconds
        if self.at_once > _MARK_S:
            line.turns.mark()
        if self.is_lower and line.is_any_better(self, now):
            self.debt.took(seconds, now)

    def is_overdue(self, now: float) -> bool:
        """Whether it has waited too long: those who come and go may keep it busy with nothing."""
        return now > self.went_on_at + (1 + _LOWER_PAUSE) * _LONGEST_WAIT_S

    @property
    def free_at(self) -> float:
        """When those who wait may go on."""
        return max(self.debt.free_at, self.held_until)

    @contextmanager
    def looking(self, counted_s: float) -> Iterator[None]:
        """The store looks up much for one of it: of those who are worth less, for one at a time.

        Its thread would have the interpreter nearly always, and the questions that wait for it be
        most of the memory. `counted_s`: what was counted for it; what it takes beyond that is too.
        """
        line, begin = self.line, self.line.turns.clock()
        is_held = self.is_lower and line.is_any_better(self, begin)
        self._looks += 1
        if is_held:
            self.held_until = begin + _LONGEST_LOOK_S
        try:
            yield
        finally:
            self._looks -= 1
            if not self._looks:
                self.held_until = float("-inf")
            if is_held:
                now = line.turns.clock()
                more = min(now - begin, _LONGEST_LOOK_S) - counted_s
                if more > 0:
                    self.debt.took(more, now)
                line.turns.plan()

    def forget(self, turn: Waiting) -> None:
        """One belongs to it no more, and does not count as being there."""
        if self._served is turn:
            self._served = None
            self.served_at = float("-inf")

    def join(self, turn: Waiting) -> None:
        """Let one wait for its turn: before those who had more of late."""
        turn.had = max(turn.had, self.served_had)
        # Whoever was away has saved up little.
        self.had = max(self.had, self.line.had - _SAVED_S)
        heapq.heappush(self._heap, (turn.had, next(self._numbers), turn))
        self.waiting = len(self._heap)

    def leave(self, turn: Waiting) -> None:
        """One waits no more."""
        self._heap = [entry for entry in self._heap if entry[2] is not turn]
        heapq.heapify(self._heap)
        self.waiting = len(self._heap)

    def take(self) -> Waiting:
        """Whoever is next; there is somebody."""
        self.served_had, _, turn = heapq.heappop(self._heap)
        self.waiting = len(self._heap)
        return turn


class Line:
    """The connections of one listener."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served_at = float("-inf")
        self.groups = [Group(self, rank) for rank in Rank]
        self.had = 0.0
        """What the group had that was served last, when it was."""
        self._debt = Debt(_PAUSE)
        self._went_on_at = float("-inf")
        # What those whose turn it was have begun, and is still to be done.
        self._begun_s = 0.0

    @property
    def is_waited_in(self) -> bool:
        """Whether somebody waits for a turn."""
        return any(group.waiting for group in self.groups)

    def next_at(self) -> float | None:
        """When somebody who waits may go on; None if nobody does."""
        free_at = min((group.free_at for group in self.groups if group.waiting), default=None)
        return None if free_at is None else max(self._debt.free_at, free_at)

    def begin(self) -> None:
        """A new go of the event loop."""
        for group in self.groups:
            group.at_once = 0.0

    def is_any_better(self, group: Group, now: float) -> bool:
        """Whether some were served a moment ago who are worth more."""
        for other in self.groups:
            if other is group:
                return False
            if now - other.served_at < PRESENT_S:
                return True
        return False

    def took(self, seconds: float, now: float) -> None:
        """Some of the loop's time went into its connections."""
        self.served_at = now
        if self.turns.is_any_line_beside(self, now):
            self._debt.took(seconds, now)

    def owes(self, seconds: float, now: float) -> None:
        """Wait as for so much of the loop's time, though it did not go into its connections."""
        if self.turns.is_any_line_beside(self, now):
            self._debt.took(seconds, now)

    def will_take(self, seconds: float, now: float) -> None:
        """What was begun in a turn will take so much of the loop's time, outside of it."""
        self._begun_s += seconds
        self.owes(seconds, now)

    def may_go_on(self, turn: Turn) -> bool:
        """Whether one of those who are not waiting may go on without waiting."""
        group = turn.group
        if group.waiting:
            return False
        soon = self.turns.clock() + MOMENT_S
        if group.at_once > _AT_ONCE_S and self.turns.is_anybody_beside(turn, soon):
            return False
        if self._debt.free_at >= soon or group.debt.free_at >= soon:
            return False
        if group.held_until >= soon:
            return False
        for other in self.groups:
            if other.waiting and other.had < group.had and other.free_at < soon:
                return False
        return True

    def go_on(self) -> None:
        """Serve those that wait, for a slice of time, each once at most.

        One is served in any case, now and then: those who come and go may keep a listener busy
        with nothing.
        """
        now = self.turns.clock()
        is_overdue = now > self._went_on_at + _LONGEST_WAIT_S
        end = now + SLICE_S
        self._begun_s = 0.0
        for _ in range(sum(group.waiting for group in self.groups)):
            now = self.turns.clock()
            if (now + self._begun_s > end or not self._debt.is_paid(now)) and not is_overdue:
                return
            group = self._next_group(now)
            if group is None:
                return
            turn = group.take()
            if turn.drop_if_gone():
                continue
            is_overdue = False
            self._went_on_at = group.went_on_at = now
            turn.go_on()

    def _next_group(self, now: float) -> Group | None:
        waiting = [
            group
            for group in self.groups
            if group.waiting
            and group.held_until < now + MOMENT_S
            and (group.debt.is_paid(now) or group.is_overdue(now))
        ]
        return min(waiting, key=lambda group: group.had, default=None)

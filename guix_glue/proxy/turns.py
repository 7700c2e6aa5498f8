"""Whose nar is made now: so many at once, and the others in the order in which they came.

Each that is made takes memory, be it that its client does not read it. So whoever only holds a turn
keeps nobody out: where others wait, one whose client has taken nothing for half a minute has to go,
the one that did so for longest first. A client that reads at all can ask for the rest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Turn", "Turns"]

_QUIET_S: Final = 30.0
_LOOK_S: Final = 1.0


class Turn:
    """A nar that is made. `send_away` ends it, and it is given back by whoever has it."""

    def __init__(self, send_away: Callable[[], None]) -> None:
        self.send_away = send_away
        self._quiet_since: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """It is the client that is waited for."""
        self._quiet_since = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._quiet_since = None

    def quiet_for(self, now: float) -> float:
        """How long its client has taken nothing, at a time of the loop."""
        return 0.0 if self._quiet_since is None else now - self._quiet_since


class Turns:
    """All turns there are."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._taken: set[Turn] = set()
        self._leaving: set[Turn] = set()
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, turn: Turn) -> None:
        """Wait until it is the turn of one more; it is given back by `give_back`."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait()
        self._taken.add(turn)

    def give_back(self, turn: Turn) -> None:
        """It is over."""
        self._taken.discard(turn)
        self._leaving.discard(turn)
        self._free += 1
        self._pass_on()

    async def _wait(self) -> None:
        due = asyncio.get_running_loop().create_future()
        self._waiting[due] = None
        self._look_later()
        try:
            await due
        except asyncio.CancelledError:
            if due.done() and not due.cancelled():
                # It came too late for this one.
                self._free += 1
                self._pass_on()
            self._waiting.pop(due, None)
            raise

    def _pass_on(self) -> None:
        while self._free and self._waiting:
            due, _ = self._waiting.popitem(last=False)
            if not due.done():
                self._free -= 1
                due.set_result(None)

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._look_later()
        now = asyncio.get_running_loop().time()
        quiet = [(turn.quiet_for(now), turn) for turn in self._taken - self._leaving]
        longest, turn = max(quiet, key=lambda one: one[0], default=(0.0, None))
        # One for each that waits: it may take a moment until they have gone.
        if turn is not None and longest >= _QUIET_S and len(self._leaving) < len(self._waiting):
            self._leaving.add(turn)
            turn.send_away()

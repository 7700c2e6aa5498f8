"""A rate that some connections share: who has had more waits, in turn, and nobody is refused.

What is there grows with time, up to what may be saved up. Whoever takes may take more than there
is: then it has to grow to something again before anybody goes on. Those who share a rate are told
apart by what they want called, and each takes a part before the next.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

__all__ = ["NO_LIMIT", "ByteRate", "Rate"]

NO_LIMIT: Final = 1 << 40
"""In place of the room where there is no rate."""

# What may be saved up of bytes: that of a second, or two large blocks.
_LEAST_SAVED: Final = 64 * 1024
# KiB that one may take before the next of those who wait.
_PART_KIB: Final = 64
# The event loop is not woken more often than so for a part of it.
_PAUSE_S: Final = 0.02


class Rate:
    """So many units a second; `saved` at once, `part` of them while others wait.

    `clock`: seconds.
    """

    def __init__(
        self, per_s: float, saved: float, part: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._clock = clock
        self._most = float(saved)
        self._part = part
        self._there = float(saved)
        self._at = clock()
        # In order: a dict is one that can be looked into.
        self._waiting: dict[Callable[[], None], None] = {}
        # Whose turn it is, until they take something: they may have to wait for other things too.
        self._chosen: set[Callable[[], None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._per_s < math.inf

    def room(self, go_on: Callable[[], None]) -> int:
        """Units that may be taken now. While there are any, what is taken may be more than that."""
        if not self.is_limited:
            return NO_LIMIT
        if self._waiting and go_on not in self._chosen:
            return 0  # not before those who wait
        self._refill()
        room = max(0, int(self._there))
        return min(room, self._part) if self._waiting else room

    def took(self, go_on: Callable[[], None], units: int) -> None:
        """So much is taken."""
        self._chosen.discard(go_on)
        self._there -= units

    def give_back(self, units: int) -> None:
        """So much of what was taken was not used."""
        self._there += units
        if self._waiting and units and self._there >= 1:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(0, self._go_on)

    def wait(self, go_on: Callable[[], None]) -> None:
        """Have this called when it is one's turn and there is room again."""
        self._waiting.setdefault(go_on)
        self._plan()

    def leave(self, go_on: Callable[[], None]) -> None:
        """One waits no more."""
        self._waiting.pop(go_on, None)
        self._chosen.discard(go_on)

    @property
    def is_unused(self) -> bool:
        """Whether it is as a new one would be."""
        self._refill()
        return self._there >= self._most and not self._waiting

    def _refill(self) -> None:
        now = self._clock()
        if not self.is_limited:
            self._there, self._at = self._most, now
            return
        there = self._there + (now - self._at) * self._per_s
        self._there, self._at = min(there, self._most), now

    def _plan(self) -> None:
        if self._timer is None:
            lacking = max(0.0, 1 - self._there) / self._per_s
            pause = max(lacking, _PAUSE_S)
            self._timer = asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        try:
            for _ in range(len(self._waiting)):
                self._refill()
                if self._there < 1 or not self._waiting:
                    break
                go_on = next(iter(self._waiting))
                del self._waiting[go_on]
                self._chosen.add(go_on)
                go_on()
        finally:
            if self._waiting:
                self._plan()


class ByteRate(Rate):
    """A rate in bytes a second, told in KiB: a block weighs 1 or 32. None: there is no limit."""

    def __init__(
        self, bytes_per_s: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(*_in_kib(bytes_per_s), _PART_KIB, clock)

    def change(self, bytes_per_s: int | None) -> None:
        """Be another rate from now on; those who wait go on as it lets them."""
        self._refill()
        self._per_s, self._most = _in_kib(bytes_per_s)
        self._there = min(self._there, self._most) if self.is_limited else self._most
        if self._timer is not None:
            # It was for the pause of the former rate.
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._plan()


def _in_kib(bytes_per_s: int | None) -> tuple[float, float]:
    """A second's, and what may be saved up."""
    if bytes_per_s is None:
        return math.inf, _LEAST_SAVED / 1024
    return bytes_per_s / 1024, max(bytes_per_s, _LEAST_SAVED) / 1024

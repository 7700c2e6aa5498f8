"""How much each user may put in a second, so that one who puts all day pushes nobody else out.

Nothing is refused: who has put more waits, and what comes from there meanwhile is not read. All
connections of a user share one rate, and wait in turn; so do all peers of a listener on TCP, where
nobody is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["NO_LIMIT", "PutRate", "PutRates"]

NO_LIMIT: Final = 1 << 40
"""KiB, in place of the room where there is no rate."""

# What may be saved up: that of a second, or two large blocks.
_LEAST_SAVED: Final = 64 * 1024
# What one may put before the next of those who wait.
_PART: Final = 64
# The event loop is not woken more often than so for a part of it.
_PAUSE_S: Final = 0.02
# Users who had their rate in use lately are remembered, all others are as good as new.
_MOST_KNOWN: Final = 256


class PutRate:
    """The rate that some connections share. They are told apart by what they want called.

    `clock`: seconds.
    """

    def __init__(self, bytes_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._most = max(bytes_per_s, _LEAST_SAVED)
        self._there = float(self._most)
        self._at = clock()
        # In order: a dict is one that can be looked into.
        self._waiting: dict[Callable[[], None], None] = {}
        # Whose turn it is, until they put something: they may have to wait for other things too.
        self._chosen: set[Callable[[], None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def room(self, go_on: Callable[[], None]) -> int:
        """KiB that may be put now. While there are any, a block may be larger than that."""
        if self._waiting and go_on not in self._chosen:
            return 0  # not before those who wait
        self._refill()
        room = max(0, int(self._there)) >> 10
        return min(room, _PART) if self._waiting else room

    def took(self, go_on: Callable[[], None], kib: int) -> None:
        """So much is put."""
        self._chosen.discard(go_on)
        self._there -= kib << 10

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
        there = self._there + (now - self._at) * self._bytes_per_s
        self._there, self._at = min(there, self._most), now

    def _plan(self) -> None:
        if self._timer is None:
            lacking = max(0.0, 1024 - self._there) / self._bytes_per_s
            pause = max(lacking, _PAUSE_S)
            self._timer = asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        try:
            for _ in range(len(self._waiting)):
                self._refill()
                if self._there < 1024 or not self._waiting:
                    break
                go_on = next(iter(self._waiting))
                del self._waiting[go_on]
                self._chosen.add(go_on)
                go_on()
        finally:
            if self._waiting:
                self._plan()


class PutRates:
    """The rates of all users; None in place of each where there is no limit."""

    def __init__(
        self, bytes_per_s: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._by_uid: dict[int, PutRate] = {}

    def make(self) -> PutRate | None:
        """One for those that share it."""
        return None if self._bytes_per_s is None else PutRate(self._bytes_per_s, self._clock)

    def of(self, uid: int) -> PutRate | None:
        """That of a user."""
        known = self._by_uid.get(uid)
        if known is None:
            known = self.make()
            if known is not None:
                self._forget_unused()
                self._by_uid[uid] = known
        return known

    def _forget_unused(self) -> None:
        if len(self._by_uid) >= _MOST_KNOWN:
            used = {uid: rate for uid, rate in self._by_uid.items() if not rate.is_unused}
            self._by_uid = used

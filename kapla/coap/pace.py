"""How much may be on its way on one connection: as much as the link brings soon, and no more.

A link is busy while more bytes are under way than its rate times its round trip; blocks of 1 KiB
and of 32 KiB need very different numbers of requests for that, so bytes are counted and not
requests. Once a round trip, what may be under way grows if it was used up, or shrinks if the answer
came late: then more is on its way than is of use, and whoever asks next waits for all of it. A
value without I/O or clock.

On this machine there is no link to fill, and an answer that is late tells of nothing but what the
other end waits for itself. It should know early what is wanted, since it may have to ask others.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

# 50 ms at 80 Mbit/s, about what TCP itself has on its way after five round trips.
_FIRST: Final = 512 * 1024
_LEAST: Final = 256 * 1024
# 100 ms at 640 Mbit/s.
_MOST: Final = 8 * 1024 * 1024
_STEP: Final = 1.5
# A commit, a cold disk or a busy machine may take this long; less is no sign of a queue.
_PATIENCE_S: Final = 0.5


class Pace:
    """Whether there is room for another request."""

    def __init__(self) -> None:
        self.is_local = False
        """Whether both ends are on this machine: then there is room for as much as ever."""
        self.under_way = 0
        """Bytes of the requests that are not answered, and of the blocks that they ask for."""
        self._limit: float = _FIRST
        self._quickest_s = float("inf")
        self._used_up = False

    @property
    def has_room(self) -> bool:
        """Whether one more request may go, whatever its size."""
        if self.room > 0:
            return True
        self._used_up = True
        return False

    @property
    def room(self) -> float:
        """Bytes that may still go; the last request may go beyond."""
        return (_MOST if self.is_local else self._limit) - self.under_way

    def learn(self, took_s: float) -> None:
        """Learn from the round trip of a request that was sent after the last time."""
        self._quickest_s = min(self._quickest_s, took_s)
        if took_s > 2 * self._quickest_s + _PATIENCE_S:
            self._limit = max(_LEAST, self._limit / _STEP)
        elif self._used_up:
            self._limit = min(_MOST, self._limit * _STEP)
        self._used_up = False

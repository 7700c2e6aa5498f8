"""How many bytes a peer may owe: what its link can use, and no long queue.

It grows by what is answered while that was all used, doubled every round trip at first, and no more
once answers take longer than the way alone: then they wait in a queue, where everybody else's wait
too, and where they are lost when the peer stalls. A time-out halves it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Window"]

_FIRST: Final = 128 * 1024
_LEAST: Final = 32 * 1024
# 100 ms at 640 Mbit/s.
_MOST: Final = 8 * 1024 * 1024
_STEP: Final = 1.5
_BACK: Final = 1.2
# A busy machine, a commit or a cold disk are no queue.
_PATIENCE_S: Final = 0.025
# On the loopback, answers may come in no time at all.
_LEAST_ROUND_S: Final = 0.001


class Window:
    """Bytes that may be owed."""

    __slots__ = (
        "_began",
        "_bytes",
        "_count",
        "_is_starting",
        "_quickest_s",
        "_round_until",
        "_sum_s",
        "_used_up",
        "rate",
        "size",
    )

    def __init__(self) -> None:
        self.size: float = _FIRST
        self.rate = 0.0
        """Bytes a second, in the last round trips in which it was used up."""
        self._quickest_s = float("inf")
        self._is_starting = True
        self._used_up = False
        self._round_until = 0.0
        self._began = 0.0
        self._bytes = 0
        self._count = 0
        self._sum_s = 0.0

    def used_up(self) -> None:
        """Somebody would have liked to ask for more."""
        self._used_up = True

    def learn(self, took_s: float, weight: int, smoothed_s: float, now: float) -> None:
        """An answer of so many bytes came after this time; once a round trip, think it over."""
        self._quickest_s = min(self._quickest_s, took_s)
        self._bytes += weight
        self._count += 1
        self._sum_s += took_s
        if not self._began:
            self._begin_round(now, smoothed_s)
        elif now >= self._round_until:
            self._end_round(now)
            self._begin_round(now, smoothed_s)

    def _end_round(self, now: float) -> None:
        mean_s = self._sum_s / self._count
        rate = self._bytes / (now - self._began)
        self.rate = rate if not self.rate else self.rate + (rate - self.rate) / 4
        if mean_s > 2 * self._quickest_s + 2 * _PATIENCE_S:
            self._is_starting = False
            self.size = max(_LEAST, self.size / _BACK)
        elif mean_s > 1.5 * self._quickest_s + _PATIENCE_S:
            self._is_starting = False
        elif self._used_up:
            more = self._bytes if self._is_starting else self.size * (_STEP - 1)
            self.size = min(_MOST, self.size + more)

    def _begin_round(self, now: float, smoothed_s: float) -> None:
        self._began, self._round_until = now, now + max(smoothed_s, _LEAST_ROUND_S)
        self._bytes, self._count, self._sum_s = 0, 0, 0.0
        self._used_up = False

    def timed_out(self, now: float, smoothed_s: float) -> None:
        """An answer did not come: half as much, once a round trip."""
        if now >= self._round_until:
            self.size = max(_LEAST, self.size / 2)
            self._round_until = now + smoothed_s
        self._is_starting = False

    def shut(self) -> None:
        """Nothing comes at all: begin anew with the least."""
        self.size = _LEAST
        self._is_starting = True

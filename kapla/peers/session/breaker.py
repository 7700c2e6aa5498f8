"""A peer that does not answer is left alone: 2 s, then twice as long each time."""

from __future__ import annotations

from typing import Final

__all__ = ["Breaker"]

_FIRST_S: Final = 2.0
_MOST_TIMES: Final = 8  # 512 s


class Breaker:
    """Closed while a peer answers. Open: it is asked nothing; then one request tries it."""

    __slots__ = ("_probe_at", "_times", "is_silent", "reason", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """When it may be tried again; 0 while it is closed."""
        self.reason = ""
        self.is_silent = False
        """Whether it was opened since nothing came, so that something may come still."""
        self._times = 0
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the peer has to show first that it works."""
        return self.until > 0

    def lets_through(self, now: float) -> bool:
        """Whether one more may be asked of the peer."""
        return not self.is_open or (now >= self.until and self._probe_at is None)

    def asked(self, now: float) -> None:
        """Something was asked; of a peer that is being tried, nothing else is for now."""
        if self.is_open:
            self._probe_at = now

    def is_probe_late(self, now: float, limit_s: float) -> bool:
        """Whether the request that tried it came to nothing."""
        return self._probe_at is not None and now >= self._probe_at + limit_s

    @property
    def probe_at(self) -> float | None:
        """When the request that tries it was sent, if there is one."""
        return self._probe_at

    def open(self, now: float, reason: str, *, is_silent: bool = False) -> None:
        """Leave it alone, longer than the last time."""
        self.is_silent = is_silent
        self.until = now + _FIRST_S * 2**self._times
        self.reason = reason
        self._times = min(self._times + 1, _MOST_TIMES)
        self._probe_at = None

    def close(self) -> None:
        """It works."""
        self.until, self.reason, self._times, self._probe_at = 0.0, "", 0, None

"""What others depend on, and what fails for a while: when to try again, and when to say so.

Something that fails is said once, and again when it fails for another reason; not for each of the
thousand jobs that meet it. Nothing here does I/O or writes to a log: whoever asks does.
"""

from __future__ import annotations

import asyncio

__all__ = ["Outage"]


class Outage:
    """One store, one directory, one server. `pause_s` is how long it is left alone each time.

    With `first_s` it is so long the first time, then twice as long each time, up to `pause_s`. What
    fails while it is left alone was asked before, and counts for nothing.
    """

    def __init__(self, pause_s: float, *, first_s: float | None = None) -> None:
        self._pause_s = pause_s
        self._first_s = pause_s if first_s is None else first_s
        self._next_s = self._first_s
        self._until = 0.0
        self._reason: str | None = None

    @property
    def left_s(self) -> float:
        """For how long it is still to be left alone; 0 if it may be tried."""
        return max(0.0, self._until - asyncio.get_running_loop().time())

    @property
    def reason(self) -> str | None:
        """Why it fails, as far as that is known; None if it does not."""
        return self._reason

    def begin(self, reason: str | None, *, pause: bool = True) -> bool:
        """It failed; returns whether that is news. None: for a reason that is not known.

        Without `pause` it may be tried again at once.
        """
        if pause and (self._first_s == self._pause_s or not self.left_s):
            self._until = asyncio.get_running_loop().time() + self._next_s
            self._next_s = min(2 * self._next_s, self._pause_s)
        known = self._reason
        self._reason = reason if reason is not None else known or ""
        return known is None or self._reason != known

    def end(self) -> bool:
        """It works; returns whether that is news."""
        was_on = self._reason is not None
        self._reason = None
        self._until = 0.0
        self._next_s = self._first_s
        return was_on

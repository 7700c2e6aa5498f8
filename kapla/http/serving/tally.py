"""Lines of the log that strangers could make many of: a few are written, the rest is counted."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

__all__ = ["Tally"]

_PERIOD_S: Final = 60.0


class Tally:
    """Writes `at_once` lines a minute at level info, and after the minute how many more there were.

    For the event loop.
    """

    def __init__(self, log: logging.Logger, more: str, *, at_once: int = 1) -> None:
        """`more` is what is said of those that are only counted; it has one `%d`."""
        self._log = log
        self._more = more
        self._at_once = at_once
        self._noted = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, message: str, *arguments: object) -> None:
        """Write a line, or count it."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PERIOD_S, self._tell)
        self._noted += 1
        if self._noted <= self._at_once:
            self._log.info(message, *arguments)

    def _tell(self) -> None:
        self._timer = None
        if self._noted > self._at_once:
            self._log.info(self._more, self._noted - self._at_once)
        self._noted = 0

"""What is wrong with one of many things: said once for each, and not by the thousand."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Complaints"]

_PERIOD_S: Final = 60.0
_IN_A_PERIOD: Final = 20
"""Lines in a minute: enough to see what is wrong; what is left out is counted."""


class Complaints:
    """Warnings about things by their keys; of the last `length` it is known what was said."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        length: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._length = length
        self._clock = clock
        self._said: OrderedDict[str, str] = OrderedDict()
        self._period_began = float("-inf")
        self._lines = 0
        self._left_out = 0

    def say(self, key: str, text: str) -> None:
        """Warn about a thing, unless that was the last that was said of it."""
        if self._said.get(key) == text:
            self._log.debug("Again: %s", text)
            return
        self._said[key] = text
        self._said.move_to_end(key)
        if len(self._said) > self._length:
            self._said.popitem(last=False)
        self._say_in_time(text)

    def withdraw(self, key: str) -> None:
        """It is well: what is wrong next is news."""
        self._said.pop(key, None)

    def _say_in_time(self, text: str) -> None:
        now = self._clock()
        if now - self._period_began >= _PERIOD_S:
            if self._left_out:
                self._log.warning("%d more such lines were left out", self._left_out)
            self._period_began, self._lines, self._left_out = now, 0, 0
        if self._lines < _IN_A_PERIOD:
            self._lines += 1
            self._log.warning("%s", text)
        else:
            self._left_out += 1
            self._log.debug("Left out: %s", text)

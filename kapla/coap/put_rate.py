"""How much each user may put in a second, so that one who puts all day pushes nobody else out.

Nothing is refused: who has put more waits, and what comes from there meanwhile is not read. All
connections of a user share one rate, and wait in turn; so do all peers of a listener on TCP, where
nobody is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from kapla.coap.rate import NO_LIMIT, ByteRate

__all__ = ["NO_LIMIT", "PutRate", "PutRates"]

# Users who had their rate in use lately are remembered, all others are as good as new.
_MOST_KNOWN: Final = 256

PutRate = ByteRate


class PutRates:
    """The rates of all users, and of those who share one; None: there is no limit."""

    def __init__(
        self, bytes_per_s: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._by_uid: dict[int, PutRate] = {}
        # Those who are forgotten may still be in use, by connections that were there before.
        self._made: WeakSet[PutRate] = WeakSet()

    def make(self) -> PutRate:
        """One for those that share it, as long as it lives."""
        rate = PutRate(self._bytes_per_s, self._clock)
        self._made.add(rate)
        return rate

    def of(self, uid: int) -> PutRate:
        """That of a user."""
        known = self._by_uid.get(uid)
        if known is None:
            self._forget_unused()
            known = self._by_uid[uid] = self.make()
        return known

    def change(self, bytes_per_s: int | None) -> None:
        """Let another rate hold, for those that are there too."""
        self._bytes_per_s = bytes_per_s
        for rate in list(self._made):
            rate.change(bytes_per_s)

    def _forget_unused(self) -> None:
        if len(self._by_uid) >= _MOST_KNOWN:
            used = {uid: rate for uid, rate in self._by_uid.items() if not rate.is_unused}
            self._by_uid = used

"""How much each user may put in a second, so that one who puts all day pushes nobody else out.

Nothing is refused: who has put more waits, and what comes from there meanwhile is not read. All
connections of a user share one rate, and wait in turn; so do all peers of a listener on TCP, where
nobody is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from kapla.coap.rate import NO_LIMIT, ByteRate

__all__ = ["NO_LIMIT", "PutRate", "PutRates"]

# Users who had their rate in use lately are remembered, all others are as good as new.
_MOST_KNOWN: Final = 256

PutRate = ByteRate


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

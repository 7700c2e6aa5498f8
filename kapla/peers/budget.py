"""How much peers are given and told: prices, and which allowance is whose.

A session asks about each block of a content, in questions of 256, and a peer that lacks some again
while others may just have given them to it: two questions each quarter of a second at most, 2,048
blocks a second. All of them may be missing. So a peer may be told of 2,500 blocks a second that
are not here, for as long as it likes, and of 131,072 at once: 4 GiB of large blocks or 128 MiB of
small ones. What is here costs next to nothing: 40,000 blocks a second are more than a gigabyte of
large ones; and nothing if the block itself is asked for. Whoever goes through a list of what
others may have read asks for little else than what is not here.

Whoever may put is not held to it: an upload asks about all that it brings, and most is not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from kapla.coap.allowance import Allowance, Prices
from kapla.coap.rate import ByteRate, Rate
from kapla.peers.table import Peer, Usable

__all__ = ["Budgets"]

_PER_S: Final = 40_000
_SAVED: Final = 2**21
# What one may be told before the next of those who share it.
_PART: Final = 4096
_PRICES: Final = Prices(hit=1, miss=16)

L = TypeVar("L", bound=Usable)


class Budgets(Generic[L]):
    """The allowances of all peers. `stranger_rate`: bytes a second, for those of each listener."""

    def __init__(
        self, stranger_rate: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stranger_rate = stranger_rate
        self._clock = clock
        self._of: dict[int, Allowance] = {}
        # One for each listener.
        self._of_strangers: list[Allowance] = []

    def of(self, peer: Peer[L]) -> Allowance:
        """That of a peer, shared by all its connections."""
        known = self._of.get(peer.number)
        if known is None:
            known = self._make(peer.settings.max_rate, may_put=peer.may("put"))
            self._of[peer.number] = known
        return known

    def forget(self, peer: Peer[L]) -> None:
        """A peer is there no more."""
        self._of.pop(peer.number, None)

    def of_strangers(self, *, may_put: bool) -> Allowance:
        """One more, for those who share it."""
        allowance = self._make(self._stranger_rate, may_put=may_put)
        self._of_strangers.append(allowance)
        return allowance

    def change_stranger_rate(self, bytes_per_s: int | None) -> None:
        """Let another rate hold for strangers, for those that are there too."""
        self._stranger_rate = bytes_per_s
        for allowance in self._of_strangers:
            if allowance.given is not None:
                allowance.given.change(bytes_per_s)

    def _make(self, bytes_per_s: int | None, *, may_put: bool) -> Allowance:
        given = ByteRate(bytes_per_s, self._clock)
        presence = None if may_put else Rate(_PER_S, _SAVED, _PART, self._clock)
        return Allowance(given, presence, _PRICES)

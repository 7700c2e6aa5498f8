"""What a connection is worth to others: whether blocks go over it for the time that it takes.

Each block that it gets or gives earns it some time, and whatever it has the event loop do uses that
up: misses, keep-alives and the slow lane too. So a few questions among blocks do no harm, and one
good GET among a hundred others is of no use. A value without I/O or clock.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["Merit", "Rank"]

# What a block earns: several times what it takes of the event loop, also on a small machine that
# is busy, and with one request under way at a time.
_BLOCK_EARNS_S: Final = 250e-6
# What asking for one costs that is not there, beside the time that it takes.
_MISS_COSTS_S: Final = _BLOCK_EARNS_S / 50
# The most that is saved up: for some questions about a thousand blocks each.
_MOST_SAVED_S: Final = 0.02
# Whoever has used up what was earned owes this first: some twenty blocks. Nobody is to go to and
# fro with each request.
_DEBT_S: Final = 0.005
# What a new connection may take before it counts as useless.
_TRIAL_S: Final = 0.005


class Rank(IntEnum):
    """Who goes first: the lower, the sooner."""

    USEFUL = 0
    """Blocks go over it."""
    NEW = 1
    """Nothing is known of it yet."""
    OTHER = 2
    """It takes time for other things."""


class Merit:
    """One connection's account."""

    __slots__ = ("_balance", "rank")

    def __init__(self) -> None:
        self.rank = Rank.NEW
        self._balance = 0.0

    def took(self, seconds: float) -> None:
        """It had this much of the event loop, or of the store's threads."""
        self._balance -= seconds
        if self._balance < 0:
            self._sink()

    def gave(self, blocks: int, missing: int) -> None:
        """So many blocks went over it, and so many that were asked for were not there."""
        self._balance += blocks * _BLOCK_EARNS_S - missing * _MISS_COSTS_S
        if self._balance > _MOST_SAVED_S:
            self._balance = _MOST_SAVED_S
        if self._balance > 0:
            self.rank = Rank.USEFUL
        else:
            self._sink()

    def _sink(self) -> None:
        if self.rank is Rank.USEFUL or self._balance < -_TRIAL_S:
            self.rank = Rank.OTHER
            self._balance = -_DEBT_S

"""Wanted references that nobody is asked for now, in the order of reading.

Where several daemons want the same content of the same peers, each begins at places of its own: in
the order of reading all would ask the one that has everything for the same blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from kapla.peers.session.want import Want

__all__ = ["Queue"]

# Knuth's MMIX: the next place out of the last one.
_FACTOR: Final = 6364136223846793005
_SUMMAND: Final = 1442695040888963407
_BITS: Final = 64


class Queue:
    """What waits. `place`: any number, where this daemon begins."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._wants: OrderedDict[int, Want] = OrderedDict()
        self._last = -1
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._wants)

    def __contains__(self, want: Want) -> bool:
        return want.number in self._wants

    def add(self, want: Want) -> None:
        """Let it wait, at its place."""
        if self._wants and want.number < self._last:
            self._is_sorted = False
        self._last = want.number if not self._wants else max(self._last, want.number)
        self._wants[want.number] = want

    def remove(self, want: Want) -> None:
        """It waits no more; it need not have."""
        self._wants.pop(want.number, None)

    def in_order(self) -> Iterator[Want]:
        """All, in the order of reading. Take none out meanwhile."""
        self._sort()
        return iter(self._wants.values())

    def from_place(self) -> list[Want]:
        """All, from a place of this daemon's own on; each time from another."""
        self._sort()
        wants = list(self._wants.values())
        start = self._next_place() * len(wants) >> _BITS
        return wants[start:] + wants[:start]

    def _next_place(self) -> int:
        self._place = (self._place * _FACTOR + _SUMMAND) % (1 << _BITS)
        return self._place

    def _sort(self) -> None:
        if not self._is_sorted:
            self._wants = OrderedDict(sorted(self._wants.items()))
            self._last = next(reversed(self._wants), -1)
            self._is_sorted = True

"""Wanted references that nobody is asked for now, in the order of reading.

Where several daemons want the same content of the same peers, each begins at a place of its own,
and when it comes to what a neighbour already has, at another: else all would ask the one that has
everything for the same blocks.
"""

from __future__ import annotations

from bisect import bisect_left
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
        self._cursor: int | None = None

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
        """All, from the place of this daemon on."""
        self._sort()
        numbers = list(self._wants)
        if self._cursor is None:
            self._cursor = numbers[self._next_place() * len(numbers) >> _BITS]
        start = bisect_left(numbers, self._cursor)
        wants = list(self._wants.values())
        return wants[start:] + wants[:start]

    def went_past(self, want: Want) -> None:
        """Go on after this one."""
        self._cursor = want.number + 1

    def jump(self) -> None:
        """Begin somewhere else: a neighbour is here."""
        self._cursor = None

    def _next_place(self) -> int:
        self._place = (self._place * _FACTOR + _SUMMAND) % (1 << _BITS)
        return self._place

    def _sort(self) -> None:
        if not self._is_sorted:
            self._wants = OrderedDict(sorted(self._wants.items()))
            self._last = next(reversed(self._wants), -1)
            self._is_sorted = True

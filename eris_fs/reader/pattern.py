"""Whether a file is read in order, and how far ahead of its readers to fetch; pure.

Reads come from several readers at once, and out of order: whoever reads through an operating system
asks for the next half MiB in some pieces, in any order. So each file has some *heads*, places up to
which it was read, and a read that begins near one moves it on. A head that has moved on far enough
is that of somebody who reads in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Pattern", "Plan"]

_HEADS: Final = 16
"""Readers of one file that are told apart. In a file of 64 MiB reads at random are near one of so
many heads now and then, and never often enough to seem in order."""

_NEAR: Final = 512 * 1024
"""Bytes before or behind a head where a read counts as its reader's."""

_ENOUGH: Final = 128 * 1024
"""Bytes that a head must have moved on in reads."""

_MOST_AHEAD: Final = 8 * 1024 * 1024
"""Bytes to be ahead of a reader: as many as `eris.get_content` has under way."""


_GROWTH: Final = 4
"""Bytes to be ahead for each that was read in order: a few round trips, and it is all of them."""

_STEP: Final = 1024 * 1024
"""Bytes by which more is fetched ahead: looking at each read costs more than it gains."""


class Plan(NamedTuple):
    """Whether to fetch whole spans for a read, and up to which byte to fetch more then, if at all.

    What is fetched ahead was mostly asked for by reads before; then `ahead` is 0.
    """

    in_order: bool
    ahead: int = 0


@dataclass(slots=True)
class _Head:
    place: int
    run: int = 0
    asked: int = 0


class Pattern:
    """How one file has been read."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        # The one that was used last is the last.
        self._heads: list[_Head] = []

    def note(self, offset: int, length: int) -> Plan:
        """Note a read of `length` bytes from `offset`; tells what to fetch for it."""
        head, end = self._nearest(offset), offset + length
        if head is None:
            head = _Head(end)
            if len(self._heads) == _HEADS:
                del self._heads[0]
        else:
            self._heads.remove(head)
            if end > head.place:
                # No more than was read: places that are skipped are not read in order.
                head.run += min(length, end - head.place)
                head.place = end
        self._heads.append(head)
        if head.run < _ENOUGH:
            return Plan(False)
        ahead = head.place + min(_GROWTH * head.run, _MOST_AHEAD)
        if ahead < head.asked + _STEP:
            return Plan(True)
        head.asked = ahead
        return Plan(True, ahead)

    def _nearest(self, offset: int) -> _Head | None:
        nearest, least = None, _NEAR + 1
        for head in self._heads:
            distance = abs(head.place - offset)
            if distance < least:
                nearest, least = head, distance
        return nearest

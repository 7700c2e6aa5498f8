"""Which segments become one; pure functions of their sizes.

Segments of about one size are gathered until there are some, as in a log-structured merge tree. So
a look-up goes into few, and a record is written again as often as there are sizes: with eight of
262,144 records each, two times by 16 million of them, which stand for half a terabyte at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

__all__ = ["choose"]

_TOGETHER: Final = 8
"""As many of one size become one."""
_AT_REST: Final = 4
"""More than so many become one when there is nothing else to do: each costs every look-up."""
_MOST_GONE: Final = 0.25
"""Of a segment's parts, before it is written without them."""
_LEAST: Final = 65_536
_MUCH: Final = 4
"""How many times larger than the others a segment is that is left alone at rest."""


def choose(counts: Sequence[int], gone: Sequence[float], *, at_rest: bool) -> list[int]:
    """The places of segments that should become one; none if all is well.

    `counts` are their records, `gone` which part of each is of no use any more.
    """
    sizes: dict[int, list[int]] = defaultdict(list)
    for place, count in enumerate(counts):
        sizes[_size(count)].append(place)
    for size in sorted(sizes):
        if len(sizes[size]) >= _TOGETHER:
            return sizes[size]
    if not at_rest:
        return []
    mostly_gone = [place for place, part in enumerate(gone) if part > _MOST_GONE]
    if mostly_gone:
        return mostly_gone
    return _few(counts) if len(counts) > _AT_REST else []


def _few(counts: Sequence[int]) -> list[int]:
    """All of them, but for one that is much larger than the others together."""
    largest = max(range(len(counts)), key=counts.__getitem__)
    if counts[largest] > _MUCH * (sum(counts) - counts[largest]):
        return [place for place in range(len(counts)) if place != largest]
    return list(range(len(counts)))


def _size(count: int) -> int:
    """Which sizes count as one: those with about one logarithm to the base of eight."""
    return max(0, (count // _LEAST).bit_length() + 1) // 3

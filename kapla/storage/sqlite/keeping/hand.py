"""What goes next when room is wanted: first in, first out, with a second chance.

The hand goes through the ids in the order of arrival. What was read since it last passed goes to
the end, under a new id, as if it had just come; the rest goes for good. Nothing is noted for a read
but one bit in memory, and what goes are runs of neighbours, whose pages become free as a whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Candidate", "Choice", "choose", "is_before", "runs_between"]

MOST_AGAIN: Final = 3
"""Bytes that get a second chance for each byte that goes, beside the allowance: where nearly
everything is read, a PUT must not wait until the whole store has been written again."""


class Candidate(NamedTuple):
    """A block that nobody keeps; its size in bytes."""

    id: int
    size: int


class Choice(NamedTuple):
    """What goes, and what goes to the end, each in order; and how far the hand has come."""

    gone: list[Candidate]
    again: list[Candidate]

    @property
    def freed(self) -> int:
        """Bytes of what goes."""
        return sum(size for _, size in self.gone)


def choose(candidates: Sequence[Candidate], read: Ids, wanted: int, allowance: int) -> Choice:
    """Pass over these, in order, until `wanted` bytes go; what is after them was not passed.

    `allowance`: bytes that may get a second chance before anything goes. What is read together
    came together: without it such a run would have to pay for itself.
    """
    gone: list[Candidate] = []
    again: list[Candidate] = []
    freed = saved = 0
    for candidate in candidates:
        if freed >= wanted:
            break
        if candidate.id in read and saved < allowance + MOST_AGAIN * freed:
            again.append(candidate)
            saved += candidate.size
        else:
            gone.append(candidate)
            freed += candidate.size
    return Choice(gone, again)


def is_before(first: int, second: int) -> bool:
    """Whether one id was given before another: see `kapla.storage.sqlite.keeping.ids`."""
    return (first < 0, first) < (second < 0, second)


def runs_between(ids: Sequence[int], safe: Ids) -> list[tuple[int, int]]:
    """Runs, as few as can be, that have all of these ids in them and none of `safe`.

    The ids are in order, and all of one sign.
    """
    runs = []
    start = 0
    while start < len(ids):
        barrier = safe.next(ids[start])
        end = len(ids)
        if barrier is not None and not barrier < 0 <= ids[start]:
            end = bisect_left(ids, barrier, start)
        runs.append((ids[start], ids[end - 1]))
        start = end
    return runs

"""Maps joined, and compared. Pure, in one pass over all of them in order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from guix_glue.formats.item_map import Contents, Entry, MapFacts

__all__ = ["Change", "Difference", "compare", "merge"]


class Change(Enum):
    """What became of an item between two maps."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "!"


@dataclass(frozen=True, slots=True)
class Difference:
    """An item that two maps say different things of; None for a map that does not have it."""

    change: Change
    before: Entry | None
    after: Entry | None


def merge(maps: Sequence[Contents]) -> Contents:
    """Join maps; what several have is taken from the first of these.

    What is said of all items holds for the result if all maps say it.
    """
    chosen = (next(iter(same)).entry for same in _together(maps))
    data = b"".join(part for entry in chosen for part in entry)
    return Contents(_common([one.facts for one in maps]), data)


def compare(before: Contents, after: Contents) -> Iterator[Difference]:
    """What two maps differ in, in order."""
    for same in _together([before, after]):
        found = {place: entry for entry, place in same}
        old, new = found.get(0), found.get(1)
        if old is None:
            yield Difference(Change.ADDED, None, new)
        elif new is None:
            yield Difference(Change.REMOVED, old, None)
        elif old.value != new.value:
            yield Difference(Change.CHANGED, old, new)


class _Placed(NamedTuple):
    entry: Entry
    place: int


def _together(maps: Sequence[Contents]) -> Iterator[Iterable[_Placed]]:
    """The entries of each item, those of the first map first."""
    rows = [_placed(one, place) for place, one in enumerate(maps)]
    ordered = heapq.merge(*rows, key=lambda one: (one.entry.key, one.place))
    return (same for _, same in groupby(ordered, key=lambda one: one.entry.key))


def _placed(contents: Contents, place: int) -> Iterator[_Placed]:
    return (_Placed(entry, place) for entry in contents)


def _common(facts: Sequence[MapFacts]) -> MapFacts:
    store_dirs = {one.store_dir for one in facts}
    trees = {one.trees for one in facts}
    return MapFacts(
        store_dirs.pop() if len(store_dirs) == 1 else None,
        trees.pop() if len(trees) == 1 else None,
    )

"""What is to become of blocks of PUTs once they are kept: held by an open pin, or lent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eris.errors import StoreFull
from eris.model import Reference
from kapla.storage.sqlite.keeping.books import PinBooks
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.state import Hold

__all__ = ["LentPromise", "Promise", "promise_of"]


def promise_of(
    hold: Hold | None, references: Sequence[Reference], *, lend: bool
) -> Promise | LentPromise | None:
    """What is promised of a PUT: that it is held, or lent, or nothing."""
    if hold is not None:
        return Promise(hold, references)
    return LentPromise(references) if lend else None


class Promise:
    """One PUT of blocks under a hold; for the writer, which has the quota."""

    __slots__ = ("_hold", "_references", "error")

    def __init__(self, hold: Hold, references: Sequence[Reference]) -> None:
        self.error: StoreFull | None = None
        """Its owner may not pin that much: then they may be there, and are not held."""
        self._hold = hold
        self._references = references

    def take(self, places: Mapping[Reference, tuple[int, int]], books: PinBooks) -> None:
        """Hold what is of this PUT among those that are there: (id, size of the block)."""
        if self.error is None:
            mine = [places[name] for name in self._references if name in places]
            if mine:
                self.error = books.quota.hold(self._hold, mine)


class LentPromise:
    """One PUT of blocks that may be lent while they are there: whoever gave them allowed it."""

    __slots__ = ("_references", "error")

    def __init__(self, references: Sequence[Reference]) -> None:
        self.error: StoreFull | None = None
        self._references = references

    def take(self, places: Mapping[Reference, tuple[int, int]], books: PinBooks) -> None:
        """Lend what is of this PUT among those that are there: (id, size of the block)."""
        mine = [places[name][0] for name in self._references if name in places]
        if mine:
            books.lent_cache.add(Ids(mine))

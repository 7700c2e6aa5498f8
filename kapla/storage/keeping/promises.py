"""Blocks of PUTs that are to be held by an open pin, once they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eris.errors import StoreFull
from eris.model import Reference
from kapla.storage.keeping.quota import Quota
from kapla.storage.keeping.state import Hold

__all__ = ["Promise"]


class Promise:
    """One PUT of blocks under a hold; for the writer, which has the quota."""

    __slots__ = ("_hold", "_references", "error")

    def __init__(self, hold: Hold, references: Sequence[Reference]) -> None:
        self.error: StoreFull | None = None
        """Its owner may not pin that much: then they may be there, and are not held."""
        self._hold = hold
        self._references = references

    def take(self, places: Mapping[Reference, tuple[int, int]], quota: Quota) -> None:
        """Hold what is of this PUT among those that are there: (id, size of the block)."""
        if self.error is None:
            mine = [places[name] for name in self._references if name in places]
            if mine:
                self.error = quota.hold(self._hold, mine)

"""Values that are kept as long as there is room, those used last for longest; pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["LeastRecent"]

V = TypeVar("V")

# What an entry takes beside its bytes: key, table, object. So many tiny ones are bounded too.
_BESIDE: Final = 256


class LeastRecent(Generic[V]):
    """A table of up to `limit` bytes; what was not used for longest goes first.

    The newest stays whatever its size: a table too small for a pack would else load it for each
    read.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is there; that is no use of it."""
        return key in self._entries

    def get(self, key: Hashable) -> V | None:
        """Use a value, if it is there."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of so many bytes, in the place of one that may be there."""
        self.discard(key)
        self._entries[key] = value, size + _BESIDE
        self.size += size + _BESIDE
        while self.size > self.limit and len(self._entries) > 1:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.size -= dropped

    def discard(self, key: Hashable) -> None:
        """Drop a value, if it is there."""
        self.pop(key)

    def pop(self, key: Hashable) -> V | None:
        """Drop a value, if it is there, and give it."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.size -= entry[1]
        return entry[0]

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.size = 0

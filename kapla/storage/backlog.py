"""What waits to be worked on: first come, first served within a group, and the groups in turn.

Without it, a crowd behind one listener that hands in work faster than it is done has everybody
else's work wait behind all of its own. What a group has had is counted by size; whoever had least
is next, and who was away has saved up nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Backlog"]

_Item = TypeVar("_Item")


class _Group(Generic[_Item]):
    __slots__ = ("had", "items")

    def __init__(self) -> None:
        self.had = 0
        self.items: deque[tuple[_Item, int]] = deque()


class Backlog(Generic[_Item]):
    """For one thread. It remembers every group that it ever met: they are to be few."""

    def __init__(self) -> None:
        self._groups: dict[object, _Group[_Item]] = {}
        self._count = 0
        self._now = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, group: object, item: _Item, size: int) -> None:
        """Let an item wait."""
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _Group()
        if not found.items:
            found.had = max(found.had, self._now)
        found.items.append((item, size))
        self._count += 1

    def take(self) -> _Item:
        """The next item.

        Raises: ValueError, if there is none.
        """
        group = min((g for g in self._groups.values() if g.items), key=lambda g: g.had)
        self._now = group.had
        item, size = group.items.popleft()
        group.had += size
        self._count -= 1
        return item

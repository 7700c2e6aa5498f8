"""What waits until a seed has room, for each who asks in turn: who asks for much delays nobody."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

__all__ = ["InTurn"]

W = TypeVar("W")


class InTurn(Generic[W]):
    """Things that wait, by whose they are. Whoever adds them bounds how many there may be."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, deque[W]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, whose: object, one: W) -> None:
        """One more, the last of its own."""
        self._waiting.setdefault(whose, deque()).append(one)

    def take(self) -> W:
        """The next. Raises: KeyError, if nothing waits."""
        whose, mine = self._waiting.popitem(last=False)
        one = mine.popleft()
        if mine:
            self._waiting[whose] = mine
        return one

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()

    def leave(self, whose: object) -> None:
        """Whatever this one waits for is not waited for."""
        self._waiting.pop(whose, None)

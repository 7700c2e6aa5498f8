"""How often, and after which pauses, what failed is tried again.

Each pause is longer than the one before, and as long at least as the server asks. There is a number
of tries, and a limit to all pauses together: a server that asks for more is not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from guix_glue.errors import TemporaryFailure

__all__ = ["Patience", "first_success"]

_S = TypeVar("_S")
_T = TypeVar("_T")

_FIRST_S: Final = 0.5
_FACTOR: Final = 4
_TRIES: Final = 3
_LONGEST_S: Final = 60.0


class Patience:
    """For one thing that is wanted; `waiting_s` is the limit of all pauses together."""

    def __init__(self, waiting_s: float = _LONGEST_S, tries: int = _TRIES) -> None:
        self._left_s = waiting_s
        self._tries = tries
        self._next_s = _FIRST_S

    def pause_s(self, asked_s: float | None = None) -> float | None:
        """How long to wait before the next try; None, if there is to be none."""
        pause_s = max(self._next_s, asked_s or 0.0)
        if self._tries == 0 or pause_s > self._left_s:
            return None
        self._tries -= 1
        self._left_s -= pause_s
        self._next_s *= _FACTOR
        return pause_s

    def spend(self, waited_s: float) -> None:
        """Count as a pause what was waited in vain."""
        self._left_s -= waited_s


async def first_success(
    sources: Iterable[_S],
    attempt: Callable[[_S], Awaitable[_T | None]],
    pausing: Callable[[float], Awaitable[None]],
    patience: Patience,
) -> _T | None:
    """What the first source brings that brings something; None, if none does.

    `attempt` returns None for a source that is of no use, and raises TemporaryFailure for one that
    may be: those are tried again, when there is no other.
    """
    waited_s = 0.0
    waiting: list[tuple[float, _S]] = []
    while True:
        for source in sources:
            try:
                result = await attempt(source)
            except TemporaryFailure as error:
                waiting.append((waited_s + (error.pause_s or 0.0), source))
                continue
            if result is not None:
                return result
        due_s = min((due_s for due_s, _ in waiting), default=None)
        pause_s = None if due_s is None else patience.pause_s(due_s - waited_s)
        if pause_s is None:
            return None
        await pausing(pause_s)
        waited_s += pause_s
        sources = [source for due_s, source in waiting if due_s <= waited_s]
        waiting = [one for one in waiting if one[0] > waited_s]

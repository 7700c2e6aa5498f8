"""Who let us wait in vain, and is not asked again for a while: a build is thousands of items.

Each time costs a time-out. So the pause is longer each time, until something came after all.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

__all__ = ["Resting"]

_FIRST_S: Final = 60.0
_LONGEST_S: Final = 1800.0
_MOST: Final = 256
"""How many are remembered: servers may name any hosts. Then those go that rested longest ago."""


class Resting:
    """All times are those of one clock, in seconds."""

    def __init__(self) -> None:
        # Until when, and how long that is; in the order of the last time.
        self._known: dict[Hashable, tuple[float, float]] = {}

    def rest(self, who: Hashable, now: float) -> None:
        """Somebody let us wait until now."""
        _, before = self._known.pop(who, (0.0, _FIRST_S / 2))
        pause = min(2 * before, _LONGEST_S)
        self._known[who] = now + pause, pause
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def rests(self, who: Hashable, now: float) -> bool:
        """Whether it is too early to ask."""
        return now < self._known.get(who, (now, 0.0))[0]

    def came(self, who: Hashable) -> None:
        """Something came: all is forgotten."""
        self._known.pop(who, None)

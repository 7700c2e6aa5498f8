"""Where the blocks of an item came from, as the store tells that counts them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

__all__ = ["Places"]

_MIB: Final = 1024**2
_MOST: Final = 5

Ask = Callable[[], Awaitable[Mapping[str, int]]]
"""Tells how many bytes came from where, by the names of places, since there is a store."""


class Places:
    """What came from where since that was told last; `own`: this machine's store."""

    def __init__(self, ask: Ask, own: str) -> None:
        self._ask = ask
        self._own = own
        self._before: Mapping[str, int] = {}

    async def describe(self) -> str:
        """For people, most first; empty if nothing came from elsewhere, or nobody tells."""
        before, self._before = self._before, await self._ask()
        # On a new connection the store counts anew.
        grown = {name: size - before.get(name, 0) for name, size in self._before.items()}
        found = {name: size for name, size in grown.items() if size > 0}
        return "" if found.keys() <= {self._own} else _described(found)


def _described(found: Mapping[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda one: -one[1])
    shown = [f"{size / _MIB:.1f} MiB from {name}" for name, size in ordered[:_MOST]]
    rest = sum(size for _, size in ordered[_MOST:])
    if rest:
        shown.append(f"{rest / _MIB:.1f} MiB from {len(ordered) - _MOST} others")
    return ", ".join(shown)

"""How often those that are found are dialled, all together.

Anybody on the network can announce as many places as he likes, another one each moment, at the
ports of whoever is there: without a bound he could have this daemon look for open ports for him, or
be a nuisance to somebody in its name. It is in the order of asking, so that who is dialled often
does not keep others from it.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Tries"]

# All those that are there at the start, or where the machine has come to, by two addresses each.
_AT_ONCE: Final = 64
_PER_S: Final = 2.0


class Tries:
    """Tries that may still be made. For the running event loop."""

    def __init__(self) -> None:
        self._left = float(_AT_ONCE)
        self._at: float | None = None
        self._first = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until one more may be made: it is made then."""
        async with self._first:
            self._refill()
            await asyncio.sleep(max(0.0, 1 - self._left) / _PER_S)
            self._refill()
            self._left -= 1

    def _refill(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._at is not None:
            self._left = min(_AT_ONCE, self._left + (now - self._at) * _PER_S)
        self._at = now

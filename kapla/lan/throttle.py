"""How much of what comes by multicast is read: the rest is dropped before it costs anything.

Whoever is on the network can send as much as it carries, and each packet holds records that are to
be read, compared and kept. A network of hundreds of machines sends some tens of packets a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Allowance", "Throttled"]

_PER_S: Final = 200.0
_AT_ONCE: Final = 1000.0


class Allowance:
    """Packets that may still be read; all sockets share one. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _AT_ONCE
        self._at = clock()

    def take(self) -> bool:
        """Whether one more may be."""
        now = self._clock()
        self._left = min(_AT_ONCE, self._left + (now - self._at) * _PER_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Throttled(asyncio.DatagramProtocol):
    """Hands packets on to `inner` as far as the allowance goes."""

    def __init__(self, inner: Any, allowance: Allowance) -> None:
        self._inner = inner
        self._allowance = allowance

    def connection_lost(self, error: Exception | None) -> None:
        """Hand it on."""
        self._inner.connection_lost(error)

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Hand it on, or drop it."""
        if self._allowance.take():
            self._inner.datagram_received(data, address)

    def error_received(self, error: Exception) -> None:
        """Hand it on."""
        self._inner.error_received(error)

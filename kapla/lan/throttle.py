"""What of multicast DNS is read: the rest is dropped before it costs anything.

Whoever is on the network can send as much as it carries, and each packet holds records that are to
be read, compared and kept. A network of hundreds of machines sends some tens of packets a second.

The port takes packets that were sent to this machine alone, too, and these may come from anywhere:
who is on no network of ours announces nothing here, and is answered nothing, as section 11 of
RFC 6762 demands. Else the whole world could ask who we are, and have the answers, which are longer
than questions, sent to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Allowance", "Throttled"]

_PER_S: Final = 200.0
_AT_ONCE: Final = 1000.0
_LONGEST: Final = 1500
"""Bytes of a packet. Nobody has to send larger ones, section 17 wants them to fit into a frame; and
the library keeps ten thousand records, however long."""


class Allowance:
    """Packets that may still be read; all sockets share one. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _AT_ONCE
        self._at = clock()

    @property
    def is_there(self) -> bool:
        """Whether one more may be."""
        now = self._clock()
        self._left = min(_AT_ONCE, self._left + (now - self._at) * _PER_S)
        self._at = now
        return self._left >= 1

    def take(self) -> None:
        """One is."""
        self._left -= 1


class Throttled(asyncio.DatagramProtocol):
    """Hands packets on to `inner` as far as the allowance goes.

    `is_near` tells of an address, perhaps with a scope, whether it is on a network of ours.
    """

    def __init__(self, inner: Any, allowance: Allowance, is_near: Callable[[str], bool]) -> None:
        self._inner = inner
        self._allowance = allowance
        self._is_near = is_near

    def connection_lost(self, error: Exception | None) -> None:
        """Hand it on."""
        self._inner.connection_lost(error)

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Hand it on, or drop it."""
        # Whether it is near is dear to tell: of a flood not for each.
        if len(data) > _LONGEST or not self._allowance.is_there:
            return
        if self._is_near(address[0]):
            # What comes from elsewhere takes nothing from those who are here.
            self._allowance.take()
            self._inner.datagram_received(data, address)

    def error_received(self, error: Exception) -> None:
        """Hand it on."""
        self._inner.error_received(error)

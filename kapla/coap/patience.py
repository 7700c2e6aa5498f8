"""How long a peer is waited for: for its greeting, and for it to take what is kept for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["Patience"]

# A peer that has said nothing sensible for so long is not one.
_GREETING_TIMEOUT_S: Final = 30.0
# A peer that takes none of its answers for so long is dropped, with what is kept for it.
_STALL_TIMEOUT_S: Final = 30.0


class Patience:
    """The timers of one connection; `transport` is what it sends through.

    `unanswered` is called when the greeting is overdue, `stalled` when the peer takes nothing.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        unanswered: Callable[[], None],
        stalled: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._stalled = stalled
        self._written = 0
        self._stall: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._greeting = loop.call_later(_GREETING_TIMEOUT_S, unanswered)

    def wrote(self, count: int) -> None:
        """So many bytes were given to the transport."""
        self._written += count
        self.watch()

    def watch(self) -> None:
        """Look after a while whether the peer takes something of what is kept for it."""
        if self._stall is None and self._unsent():
            self._stall = asyncio.get_running_loop().call_later(
                _STALL_TIMEOUT_S, self._check, self._taken()
            )

    def end(self) -> None:
        """The connection is lost: wait for nothing."""
        self._greeting.cancel()
        if self._stall is not None:
            self._stall.cancel()

    def _check(self, before: int) -> None:
        self._stall = None
        if not self._unsent():
            return
        if self._taken() == before:
            self._stalled()
        else:
            self.watch()

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _taken(self) -> int:
        """How many bytes the peer has taken so far."""
        return self._written - self._unsent()

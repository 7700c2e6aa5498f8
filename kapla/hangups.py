"""SIGHUP, from the first moment to the last: noted, and never the end of a program.

One handler stands all the time. The event loop's own ones are there only while the loop is, and
between these and Python's a signal would kill.
"""

from __future__ import annotations

import contextlib
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["Hangups", "ignore_from_now"]


class Hangups:
    """Notes SIGHUP from now on; to be made in the main thread."""

    def __init__(self) -> None:
        self._has_come = False
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        signal.signal(signal.SIGHUP, self._note)

    def end(self) -> None:
        """Let SIGHUP do what it does to other programs."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    async def next(self) -> None:
        """Wait for the next one, or return at once for those that came before; several are one."""
        import asyncio

        if self._event is None:
            self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if not self._has_come:
            await self._event.wait()
        # In this order: one that comes meanwhile is the next.
        self._has_come = False
        self._event.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._has_come:
            return  # which is told already
        self._has_come = True
        if self._loop is not None and self._event is not None:
            # It may be closed by now.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event.set)


def ignore_from_now() -> None:
    """Before a program ends: Python puts back all handlers but this one, and it would be killed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

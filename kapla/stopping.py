"""SIGTERM and SIGINT: heard for certain, whatever other signals there are.

asyncio is told of signals by bytes in a socket of its own. Some hundreds in one turn of the loop
fill it, and what comes then is lost to asyncio. So Python's own handlers note what ends a program,
and that socket only wakes the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from types import FrameType

__all__ = ["stop_event"]


def stop_event() -> asyncio.Event:
    """What is set by either; call it in the main thread, behind all `add_signal_handler`."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def note(number: int, frame: FrameType | None) -> None:
        # It may be closed by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop is woken by it, and puts back what was there when it is closed.
        loop.add_signal_handler(number, stopping.set)
        signal.signal(number, note)
    # A full socket wakes it too, and is nothing that a log should have.
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
    return stopping

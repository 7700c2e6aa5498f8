"""Threads that let whoever answers requests go first."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

__all__ = ["be_nice"]

_NICENESS: Final = 10


def be_nice() -> None:
    """Make the calling thread one of these: on Linux a niceness is a thread's own."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)

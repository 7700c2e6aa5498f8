"""Threads that let others go first, at the processor and at the disk.

On Linux both are a thread's own. The C library has no function for the second: the numbers of the
system call are those of the kernel's tables, and on another machine only the first is done.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from contextlib import suppress
from typing import Final

__all__ = ["be_idle", "be_nice"]

# More would do harm: a thread that is kept from running may hold the interpreter's lock, and who
# answers requests waits for that.
_NICENESS: Final = 10

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "i686": 289}
_WHO_PROCESS: Final = 1
_IDLE_CLASS: Final = 3 << 13


def be_nice() -> None:
    """Let who answers requests go first."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def be_idle() -> None:
    """Let everybody go first, at the disk too."""
    be_nice()
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _IDLE_CLASS)

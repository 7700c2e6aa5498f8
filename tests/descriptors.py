"""What this process has open: whether somebody left something open.

Nothing is said of what was closed. Helpers of tests that ran before in the same process may close
what is theirs at any time.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["descriptors", "left_open"]


def descriptors() -> set[tuple[str, str]]:
    """The number of each file descriptor, and what it leads to."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # The one by which this was listed is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def left_open(before: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What is open now and was not before."""
    return descriptors() - before

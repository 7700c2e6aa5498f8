"""How long whoever takes this program's output held it up: no time-out counts that.

A command writes to standard output and error in its event loop. While the other end of a pipe does
not read, or a terminal is stopped, it hears of nobody. When it goes on, that was no silence of a
daemon, which may have answered long ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

__all__ = ["counted", "seconds"]


class _Total:
    seconds = 0.0


@contextmanager
def counted() -> Iterator[None]:
    """Count what is done here; for one thread, that of the event loop."""
    began = monotonic()
    try:
        yield
    finally:
        _Total.seconds += monotonic() - began


def seconds() -> float:
    """How long it was until now, in all."""
    return _Total.seconds

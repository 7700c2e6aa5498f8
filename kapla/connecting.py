"""Sockets to stores: connecting to a Unix socket, and why there is no connection."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from typing import Final

__all__ = ["connect_unix", "reason_of"]

# Until the next try where the daemon has no place in its queue.
_QUEUE_FULL_S: Final = 0.05

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


async def connect_unix(path: str) -> socket.socket:
    """Connect; while the daemon's queue is full, again and again: asyncio takes that for success.

    Raises: OSError.
    """
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(path)
                return connecting
            except BlockingIOError:
                # Nothing announces that there is a place again.
                await asyncio.sleep(_QUEUE_FULL_S)
    except BaseException:
        connecting.close()
        raise


def reason_of(error: OSError | UnicodeError) -> tuple[int | None, str]:
    """Why a connection was not made, without the addresses that asyncio puts in."""
    number = getattr(error, "errno", None)
    # Of several addresses asyncio tells all that happened in one text.
    numbers = {number} if number else {int(one) for one in _ERRNO.findall(str(error))}
    if not numbers or min(numbers) <= 0:  # a resolver has numbers of its own
        return None, getattr(error, "strerror", None) or str(error)
    reasons = sorted(os.strerror(one) for one in numbers)
    return numbers.pop() if len(numbers) == 1 else None, ", ".join(reasons)

"""Storing and letting go take turns, so that nothing is released that was pinned a moment ago.

Whoever lets go of an entry looks whether another stands for the same blocks, and then releases
their pin. Meanwhile nobody else may pin the same content and note it only afterwards. So there is a
lock beside the catalogue: many may pin and note at a time, and letting go is done alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import Final

from kapla.catalogue.errors import CatalogueUnusable
from kapla.catalogue.place import check_directory, default_path

__all__ = ["wait_for_turn"]

# Nothing announces that a lock is free, and a thread that waits for one cannot be interrupted.
_AGAIN_S: Final = 0.02
# Longer than a store is waited for by whoever holds it; then it is done without.
_PATIENCE_S: Final = 180.0


async def wait_for_turn(*, alone: bool) -> int | None:
    """Wait for one's turn, which lasts until the descriptor is closed.

    None where there is no catalogue, or none that can be locked.
    """
    descriptor = _open()
    if descriptor is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                if _lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
                    return descriptor
                await asyncio.sleep(_AGAIN_S)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, TimeoutError | OSError):
            return None
        raise


def _open() -> int | None:
    try:
        path = default_path()
        check_directory(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    except (CatalogueUnusable, OSError):
        return None


def _lock(descriptor: int, kind: int) -> bool:
    """Whether it is ours now. Raises: OSError, where nothing can be locked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

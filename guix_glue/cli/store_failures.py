"""Why a store fails, by kind: its URL, which errors name, may be a capability."""

from __future__ import annotations

import errno
import os
from typing import Final

from eris.errors import StoreError, StoreFull, StoreRefused
from kapla.errors import CannotConnect, StoreSilent

__all__ = ["failure_of_store"]

_WORDS: Final = {
    errno.ENOENT: "cannot be reached: there is no such socket",
    errno.EACCES: "cannot be reached: permission denied",
    errno.EPERM: "cannot be reached: permission denied",
    errno.ETIMEDOUT: "cannot be reached: timed out",
}


def failure_of_store(error: StoreError) -> str | None:
    """What a store that failed does, as "is full"; None if the error does not tell."""
    if isinstance(error, StoreFull):
        return "is full"
    if isinstance(error, StoreRefused):
        return "refuses blocks: it is read-only, or does not do what is asked"
    if isinstance(error, StoreSilent):
        return "does not answer: timed out"
    number = error.number if isinstance(error, CannotConnect) else None
    if number:
        return _WORDS.get(number, f"cannot be reached: {os.strerror(number).lower()}")
    if isinstance(error.__cause__ or error.__context__, TimeoutError):
        return "cannot be reached: timed out"
    return None

"""Waiting for one's turn to write: one program at a time has a store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from eris.errors import StoreRefused, StoreUnavailable
from kapla.errors import StorageError
from kapla.storage.sqlite.holder import Holder
from kapla.storage.sqlite.lock import InUse, lock_store

__all__ = ["take_turn"]

_SAID_AFTER_S: Final = 1.0
# Nothing announces that a lock is free. It costs two system calls to look.
_LOOK_AGAIN_S: Final = 0.05


async def take_turn(path: Path, timeout_s: float, on_wait: Callable[[], None]) -> int:
    """Take the lock of a store; returns its descriptor, by closing which it is given back.

    `on_wait` is called once, when it takes longer than a second.
    Raises: StoreUnavailable, naming who has it, after so many seconds; StoreRefused, where we may
    not write.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    is_said = False
    while True:
        try:
            return lock_store(path, Holder.myself("kapla"))
        except InUse as error:
            waited_s = loop.time() - started
            if waited_s >= timeout_s:
                raise _in_use(path, timeout_s, error.holder) from None
        except StorageError as error:
            if _is_not_ours(path):
                raise StoreRefused(f"{error}: you may only read it") from error
            raise StoreUnavailable(str(error)) from error
        if waited_s >= _SAID_AFTER_S and not is_said:
            is_said = True
            on_wait()
        await asyncio.sleep(min(_LOOK_AGAIN_S, timeout_s - waited_s))


def _in_use(path: Path, waited_s: float, holder: Holder) -> StoreUnavailable:
    advice = "try again when it is done"
    if holder.socket is not None:
        advice = f"to store by way of it: --store-url coap+unix://{quote(holder.socket)}"
    elif holder.program == "kaplad":
        advice = "store by way of it, or stop it"
    return StoreUnavailable(
        f"the store {path} is in use, still after {waited_s:g} s, by {holder}; {advice}"
    )


def _is_not_ours(path: Path) -> bool:
    """Whether there is a store that we may read, and not write."""
    real = os.path.realpath(path)
    return os.access(real, os.R_OK) and not os.access(real, os.W_OK)

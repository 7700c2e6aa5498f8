"""The client's side of seeing to a whole store: a scrub, and where its database is.

See `docs/wire.md`. Only a daemon's own user, root, and whoever a listener's `admin` lets may ask.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eris.errors import ErisError, StoreRefused, StoreUnavailable
from kapla.coap.frame import Code
from kapla.errors import NotAllowed
from kapla.pin_messages import format_request, good_answer, read_map
from kapla.remote_store import RemoteStore

__all__ = ["Scrubbed", "database_path", "scrub"]

# How long it waits before it asks again: a little of the time that it took so far.
_SOONEST_S: Final = 0.02
_LATEST_S: Final = 0.5
_OF_ELAPSED: Final = 0.05
_END_S: Final = 3.0
_UNKNOWN: Final = frozenset({Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.BAD_OPTION})


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """How far a scrub is. `of`: the bytes there were when it began."""

    run: int
    running: bool
    whole: bool
    blocks: int
    bytes: int
    of: int
    bad: int


async def scrub(
    store: RemoteStore, *, rate: int | None = None, tell: Callable[[Scrubbed], None] | None = None
) -> Scrubbed:
    """Have all blocks looked at, and wait until it is done. When cancelled, it ends there too.

    `rate`: bytes a second; None: as fast as it goes. `tell` is called now and then.
    Raises: StoreError.
    """
    started = time.monotonic()
    try:
        # In here: it may have begun when nobody waits for the answer any more.
        begun = found = _read_status(await _ask(store, Code.POST, "scrub", {"rate": rate}))
        while found.running:
            elapsed = time.monotonic() - started
            await asyncio.sleep(min(_LATEST_S, max(_SOONEST_S, _OF_ELAPSED * elapsed)))
            found = _read_status(await _ask(store, Code.GET, "scrub"))
            if found.run != begun.run:
                raise StoreUnavailable("the daemon was restarted while it looked at its blocks")
            if tell is not None:
                tell(found)
    except asyncio.CancelledError:
        await _end(store)
        raise
    if not found.whole:
        raise StoreUnavailable("the scrub ended before all blocks were looked at")
    return found


async def database_path(store: RemoteStore) -> Path:
    """Where the daemon has its database. Raises: StoreError."""
    path = (await _ask(store, Code.GET, "database")).get("path")
    if not isinstance(path, bytes) or not path.startswith(b"/"):
        raise _nonsense()
    return Path(os.fsdecode(path))


async def _end(store: RemoteStore) -> None:
    try:
        async with asyncio.timeout(_END_S):
            await store.ask(Code.DELETE, format_request(store.url.store_path, ("scrub",), None))
    except (ErisError, TimeoutError):
        return  # then it goes on, to its end


async def _ask(
    store: RemoteStore, code: int, name: str, asked: Mapping[str, object] | None = None
) -> Mapping[Any, Any]:
    body = format_request(store.url.store_path, (name,), asked)
    answered, payload = await store.ask(code, body)
    if answered in _UNKNOWN:
        raise StoreRefused("this store cannot be seen to from here: it is none of a newer kaplad")
    if answered == Code.FORBIDDEN:
        raise NotAllowed("that is for whoever administers the store: root, or the daemon's user")
    return read_map(good_answer(answered, payload))


def _read_status(found: Mapping[Any, Any]) -> Scrubbed:
    counts = [found.get(name) for name in ("run", "blocks", "bytes", "of", "bad")]
    switches = [found.get(name) for name in ("running", "whole")]
    if not all(type(count) is int and 0 <= count < 2**64 for count in counts):
        raise _nonsense()
    if not all(isinstance(switch, bool) for switch in switches):
        raise _nonsense()
    run, blocks, size, of, bad = (int(count) for count in counts if count is not None)
    running, whole = map(bool, switches)
    return Scrubbed(run, running, whole, blocks, size, of, bad)


def _nonsense() -> StoreUnavailable:
    return StoreUnavailable("the store's answer makes no sense")

"""Being a seed of a daemon: connected for as long as that goes, and again when it is lost.

A daemon that is restarted, or not there yet, is waited for. One that does not take seeds, or not
from this user, is not: that is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Final

from eris.errors import StoreError, StoreRefused, StoreUnavailable
from kapla.coap.offering import LONGEST_S, BlockMaker, Later, Offering
from kapla.connecting import connect
from kapla.errors import NotAllowed
from kapla.urls import StoreUrl, UnixEndpoint

__all__ = ["BlockMaker", "Later", "SeedRefused", "stay_connected"]

_log = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 60.0
# A connection that held so long was a good one: the next is tried at once.
_GOOD_S: Final = 60.0


class SeedRefused(StoreRefused):
    """The daemon takes no seed from here, and will not in a moment."""

    exit_code = 6


async def stay_connected(
    url: StoreUrl,
    maker: BlockMaker,
    workers: Executor,
    slow: Executor,
    *,
    at_once: int,
    longest_s: float | None = None,
    on_change: Callable[[bool], None] = lambda connected: None,
) -> None:
    """Answer the daemon at `url`, until this is cancelled.

    `at_once`: how many of `workers` there are. `longest_s`: how long anybody waits for a block;
    what takes longer is made for who comes next. `on_change` is told when there is a connection,
    and when there is none any more.
    Raises: SeedRefused, also for a URL that is not of a Unix socket.
    """
    if not isinstance(url.endpoint, UnixEndpoint):
        raise SeedRefused(
            "a seed connects to the daemon's Unix socket, as coap+unix:///run/eris.sock"
        )
    pause_s = _FIRST_PAUSE_S
    said = ""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            make = partial(
                Offering, maker, workers, slow, at_once=at_once, longest_s=longest_s or LONGEST_S
            )
            reason = await _once(url, make, on_change)
            # It was connected: that it is not any more is to be told again.
            said = ""
        except StoreUnavailable as error:
            reason = str(error)
        if loop.time() - began >= _GOOD_S:
            pause_s = _FIRST_PAUSE_S
        if reason != said:
            _log.warning("Not connected to the daemon: %s", reason)
            said = reason
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _once(
    url: StoreUrl, make: Callable[[], Offering], on_change: Callable[[bool], None]
) -> str:
    """Connect, and answer until the connection ends; returns why it did.

    Raises: StoreUnavailable; SeedRefused.
    """
    offering = make()
    await connect(url, lambda: offering, _CONNECT_S)
    try:
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.shield(offering.accepted)
    except TimeoutError:
        offering.close()
        raise StoreUnavailable(f"{url} did not answer for {_CONNECT_S:.0f} s") from None
    except NotAllowed as error:
        offering.close()
        raise SeedRefused(str(error)) from error
    except StoreRefused as error:
        offering.close()
        raise SeedRefused(f"{url} knows of no seeds; is it an older kaplad? {error}") from error
    except (StoreError, asyncio.CancelledError):
        offering.close()
        raise
    on_change(True)
    _log.info("Connected to the daemon")
    try:
        return await asyncio.shield(offering.ended)
    finally:
        on_change(False)
        with suppress(asyncio.InvalidStateError):
            offering.close()

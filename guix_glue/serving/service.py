"""The life of a server: serve, forget what nobody uses, and stop in order when told to."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import sdnotify

from eris.errors import ErisError
from guix_glue.servers.complaints import Complaints
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import url_of
from guix_glue.serving.site import Kept
from kapla.stopping import stop_event

__all__ = ["serve"]

_log = logging.getLogger(__name__)

_EXPIRY_PERIOD_S: Final = 3600.0
_CARE_PERIOD_S: Final = 24 * 3600.0
_CARE_AGAIN_S: Final = 600.0
_COMPLAINTS: Final = 10


async def serve(
    server: HttpServer,
    kept: Kept,
    sockets: Sequence[socket.socket],
    *,
    ttl_s: int | None,
    on_hangup: Callable[[], None] = lambda: None,
    care: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. With `ttl_s`, what was not used for so long is looked at.

    SIGHUP, which a terminal that is closed sends as well as whoever moves logs, ends nothing:
    `on_hangup` is called. `care` is called at the start, and daily.
    Raises: OSError, if the sockets cannot be listened on.
    """
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)
    stopping = stop_event()
    service_manager = sdnotify.SystemdNotifier()
    behind = [asyncio.create_task(_tidy(kept, ttl_s))]
    if care is not None:
        behind.append(asyncio.create_task(_look_after(care)))
    try:
        await server.start(sockets)
        for one in sockets:
            _log.info("Listening on %s", url_of(one))
        service_manager.notify("READY=1")
        await stopping.wait()
        _log.info("Stopping")
        service_manager.notify("STOPPING=1")
    finally:
        for task in behind:
            task.cancel()
        await asyncio.wait(behind)
        await server.stop()


async def _tidy(kept: Kept, ttl_s: int | None) -> None:
    complaints = Complaints(_log, length=_COMPLAINTS)
    await _go_on(kept.sweep, "Cannot remove what a killed server left", complaints)
    while ttl_s is not None:
        expire = partial(kept.expire, time.time() - ttl_s)
        await _go_on(expire, "Cannot tell what is not needed any more", complaints)
        await asyncio.sleep(min(_EXPIRY_PERIOD_S, max(1.0, ttl_s)))


async def _look_after(care: Callable[[], Awaitable[None]]) -> None:
    complaints = Complaints(_log, length=_COMPLAINTS)
    while True:
        done = await _go_on(care, "Cannot tell what the store keeps", complaints)
        await asyncio.sleep(_CARE_PERIOD_S if done else _CARE_AGAIN_S)


async def _go_on(do: Callable[[], Awaitable[None]], failure: str, complaints: Complaints) -> bool:
    """Do something that is tried again later, whatever is wrong with it; tells whether it went."""
    try:
        await do()
    except (ErisError, OSError) as error:
        complaints.say(failure, f"{failure}: {error}")
    except Exception as error:
        _log.debug("Tidying failed", exc_info=True)
        complaints.say(failure, f"{failure}: {error!r}")
    else:
        complaints.withdraw(failure)
        return True
    return False

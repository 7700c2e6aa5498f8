"""Serving on sockets that are bound, with few clients let in at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from aiohttp import web

__all__ = ["serve_on"]


async def serve_on(
    runner: web.ServerRunner, sockets: Iterable[socket.socket], *, at_once: int, backlog: int
) -> None:
    """Let clients in by `at_once`, then see to those; `backlog` of them may wait for it.

    Raises: OSError.
    """
    await runner.setup()
    for one in sockets:
        # For asyncio both are one number; the socket's own can be changed afterwards.
        await web.SockSite(runner, one, backlog=at_once).start()
        one.listen(backlog)

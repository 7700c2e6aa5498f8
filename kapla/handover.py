"""What the daemon does with sockets that were handed over, beside listening on them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from kapla.errors import ConfigError
from kapla.handed import Handed, HandoverError, take_sockets

__all__ = ["accept_no_more", "check_claimed", "handed_over"]


def handed_over() -> Handed:
    """What the service manager hands over to this process: to be asked for once.

    Raises: ConfigError.
    """
    try:
        return Handed(take_sockets(os.environ))
    except HandoverError as error:
        raise ConfigError(str(error)) from error


def check_claimed(handed: Handed) -> None:
    """Whether each socket that was handed over is some listener's: else nobody would answer there.

    Raises: ConfigError.
    """
    for one in handed.left:
        raise ConfigError(
            f"{one} was handed over, and no listener has this address: add it to the settings"
            " (listen, http or admin), or take it out of the socket unit"
        )


async def accept_no_more(servers: Iterable[object]) -> None:
    """Leave whoever connects from now on to the next daemon, where the socket was handed over.

    Whoever was accepted is let in first: a server of asyncio that is closed drops him.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for one in server.sockets if isinstance(server, asyncio.Server) else ():
            loop.remove_reader(one.fileno())
    # One turn of the loop begins with what was accepted, the next has it connected.
    for _ in range(2):
        await asyncio.sleep(0)

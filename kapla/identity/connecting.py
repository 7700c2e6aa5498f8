"""A TLS connection that we make."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from kapla.identity.contexts import HANDSHAKE_TIMEOUT_S

__all__ = ["connect_tls"]

# Nothing is lost when the other end does not say goodbye.
_SHUTDOWN_TIMEOUT_S: Final = 2.0


async def connect_tls(
    make: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    next_address_s: float | None = None,
    shutdown_timeout_s: float = _SHUTDOWN_TIMEOUT_S,
) -> None:
    """Connect a protocol. If it returns the other end is who it should be.

    `next_address_s`: when to try the next address of a host as well. `shutdown_timeout_s`: how long
    what is left may take when the connection is closed.
    Raises: OSError, of `ssl` or another; TimeoutError.
    """
    await asyncio.get_running_loop().create_connection(
        make,
        host,
        port,
        ssl=context,
        # The zone of an address is a matter of this machine.
        server_hostname=host.partition("%")[0],
        happy_eyeballs_delay=next_address_s,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        ssl_shutdown_timeout=shutdown_timeout_s,
    )

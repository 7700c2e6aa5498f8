"""A TLS connection that we make."""

from __future__ import annotations

import asyncio
import socket
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
    interface: str | None = None,
) -> None:
    """Connect a protocol. If it returns the other end is who it should be.

    `next_address_s`: when to try the next address of a host as well. `shutdown_timeout_s`: how long
    what is left may take when the connection is closed. `interface`: by which one it is reached, or
    not at all; then `host` is an address.
    Raises: OSError, of `ssl` or another; TimeoutError.
    """
    if interface is not None:
        connected = await _connected_by(interface, host, port)
        await asyncio.get_running_loop().create_connection(
            make,
            sock=connected,
            ssl=context,
            server_hostname=host.partition("%")[0],
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=shutdown_timeout_s,
        )
        return
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


async def _connected_by(interface: str, address: str, port: int) -> socket.socket:
    """A TCP connection that does not leave by another interface, whatever the routes say.

    Raises: OSError; PermissionError by kernels before 5.7, where only root may ask for it.
    """
    [(family, kind, protocol, _, place), *_] = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    connecting = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        name = interface.encode() + b"\0"
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting

"""Sockets to listen on: bound here, or handed over by the service manager."""

from __future__ import annotations

import errno
import socket
from collections.abc import MutableMapping, Sequence
from ipaddress import ip_address
from typing import Any

from guix_glue.errors import PublishError
from kapla.handed import HandoverError, take_sockets

__all__ = ["activated_sockets", "bind_sockets", "is_for_this_machine", "url_of"]


def activated_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets of socket activation (LISTEN_FDS), if they are for this process.

    The variables are removed, so that no child takes them for its own.
    Raises: PublishError.
    """
    try:
        return [one.socket for one in take_sockets(environment)]
    except HandoverError as error:
        raise PublishError(str(error)) from error


def bind_sockets(host: str | None, port: int) -> list[socket.socket]:
    """Bind to a host's addresses, or to all interfaces; `port` 0 is any that is free.

    Raises: PublishError.
    """
    where = f"{host or 'all interfaces'}, port {port}"
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PublishError(f"cannot listen on {where}: {reason}") from error
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            if bound and port == 0:
                # One port for all of them.
                address = (address[0], bound[0].getsockname()[1], *address[2:])
            bound += _bind(family, address)
        if not bound:
            raise PublishError(f"cannot listen on {where}: there is no such address here")
    except OSError as error:
        _close(bound)
        raise PublishError(f"cannot listen on {where}: {error.strerror}") from error
    return bound


def _bind(family: int, address: tuple[Any, ...]) -> list[socket.socket]:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The other family has a socket of its own.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError as error:
        one.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return []
        raise
    one.setblocking(False)
    return [one]


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def url_of(listening: socket.socket) -> str:
    """Where a socket listens, as the URL of a server."""
    if listening.family == socket.AF_UNIX:
        return f"http+unix://{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_for_this_machine(listening: socket.socket) -> bool:
    """Whether no other machine can reach a socket."""
    if listening.family == socket.AF_UNIX:
        return True
    return ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback

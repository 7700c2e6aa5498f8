"""Where a server tells of itself: on the loopback interface, or on a Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kapla.errors import ListenError
from kapla.handed import Handed
from kapla.http.admin.asking import names_of
from kapla.http.settings import is_loopback
from kapla.sockets import BoundUnixSocket, bind_tcp, bind_unix
from kapla.urls import StoreUrl, UnixEndpoint

__all__ = ["ADMIN_CONNECTIONS", "AdminPlace", "AdminSocket", "bind_admin", "http_url_of"]

ADMIN_CONNECTIONS: Final = 32
"""At a time: a browser has six, and who collects figures one."""


@dataclass(frozen=True, slots=True)
class AdminSocket:
    """One socket. `names`: what `Host` may be, None on a Unix socket; `text`: where, for people."""

    socket: socket.socket
    names: frozenset[str] | None
    text: str


@dataclass(frozen=True, slots=True)
class AdminPlace:
    """All sockets of a place."""

    sockets: Sequence[AdminSocket]
    unix_socket: BoundUnixSocket | None

    @property
    def url(self) -> str | None:
        """Where a browser finds it; None, if it does not."""
        return None if self.unix_socket is not None else self.sockets[0].text


def bind_admin(place: StoreUrl, handed: Handed | None = None) -> AdminPlace:
    """Open them, but for those that were handed over.

    Raises: ListenError, also if it is not on the loopback interface.
    """
    if isinstance(place.endpoint, UnixEndpoint):
        bound = bind_unix(place, is_default=False, handed=handed)
        return AdminPlace((AdminSocket(bound.socket, None, str(place)),), bound)
    sockets = bind_tcp(place, handed)
    for one in sockets:
        host = one.getsockname()[0]
        if not is_loopback(host):
            for other in sockets:
                other.close()
            raise ListenError(f"cannot listen on {place}: {host} is not the loopback interface")
    return AdminPlace(
        [AdminSocket(one, names_of(*one.getsockname()[:2]), http_url_of(one)) for one in sockets],
        None,
    )


def http_url_of(one: socket.socket) -> str:
    """Where a TCP socket listens."""
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

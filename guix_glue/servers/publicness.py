"""Whether what a server has is there for everybody, as far as its URL tells; pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from guix_glue.servers.url import Server

__all__ = ["is_public"]

_LOCAL_ENDINGS: Final = (".local", ".lan", ".localhost", ".internal", ".intranet", ".home.arpa")


def is_public(server: Server) -> bool:
    """Whether anybody may ask it: it has no password, and its host is not one of a local network.

    A host with a name of the world may still be a firm's own; that its URL does not tell.
    """
    if server.origin is None or server.authorization is not None or server.nearby:
        return False
    host = server.origin.name.lower().rstrip(".")
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_LOCAL_ENDINGS)

"""What is handed over at the start: descriptors from 3 on, named by three variables.

Only sockets that listen for streams are of use here; anything else is a mistake in a unit, and is
told as one. The variables are for one process, so they are removed: a child must not take them for
its own, nor inherit the sockets.

Source: the manual page sd_listen_fds(3).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

__all__ = ["HandedSocket", "HandoverError", "place_of", "take_sockets"]

_FIRST: Final = 3
_MOST: Final = 64
"""Sockets that are taken: far more than anybody has listeners."""
_PROCESS, _COUNT, _NAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)


class HandoverError(Exception):
    """What was handed over cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class HandedSocket:
    """A socket that listens already; `name` is what its unit calls it, or empty."""

    socket: socket.socket
    name: str = ""

    def __str__(self) -> str:
        place = place_of(self.socket)
        return f"{place} ({self.name})" if self.name else place


def take_sockets(
    environment: MutableMapping[str, str], *, first: int = _FIRST, most: int = _MOST
) -> list[HandedSocket]:
    """Take what is handed to this process, in order; nothing, if that was for another one.

    `first` is the lowest descriptor. To be called once, early: afterwards the variables are gone.
    Raises: HandoverError.
    """
    process, count = environment.pop(_PROCESS, ""), environment.pop(_COUNT, "")
    names = environment.pop(_NAMES, "").split(":")
    if process != str(os.getpid()):
        return []
    if not re.fullmatch(r"[0-9]{1,4}", count) or int(count) > most:
        raise HandoverError(f"{_COUNT} is {count[:20]!r}; it counts sockets, {most} at most")
    descriptors = range(first, first + int(count))
    if len(names) != len(descriptors):
        names = [""] * len(descriptors)
    return [_take(number, name) for number, name in zip(descriptors, names, strict=True)]


def _take(descriptor: int, name: str) -> HandedSocket:
    called = name if name.isprintable() and len(name) <= 255 else ""
    which = f"descriptor {descriptor}" + (f" ({called})" if called else "")
    try:
        os.set_inheritable(descriptor, False)
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise HandoverError(f"{which}, which was handed over: {error.strerror}") from error
    if one.family not in _FAMILIES or one.type != socket.SOCK_STREAM:
        raise HandoverError(
            f"{which} was handed over and is no stream socket: the unit names it with ListenStream="
        )
    if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise HandoverError(
            f"{which} was handed over and does not listen: the unit has to say Accept=no"
        )
    one.setblocking(False)
    return HandedSocket(one, called)


def place_of(listening: socket.socket) -> str:
    """Where a socket listens, for people."""
    address = listening.getsockname()
    if listening.family != socket.AF_UNIX:
        host, port = address[:2]
        return f"TCP [{host}]:{port}" if ":" in host else f"TCP {host}:{port}"
    if isinstance(address, bytes):
        return f"Unix socket @{address[1:].decode(errors='replace')}"
    return f"Unix socket {address or 'without a path'}"

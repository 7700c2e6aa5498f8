"""Which listener a handed socket belongs to: the one that is configured with its address.

So rights stay where they are configured, and the service manager says only where. What nobody
claims would look like a door and never be opened, so whoever claims asks for it at the end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kapla.handed.taking import HandedSocket

__all__ = ["Handed"]


class Handed:
    """Sockets that wait to be claimed, each once."""

    def __init__(self, sockets: Iterable[HandedSocket] = ()) -> None:
        self._left = list(sockets)

    @property
    def left(self) -> Sequence[HandedSocket]:
        """What nobody has claimed yet."""
        return tuple(self._left)

    def claim_unix(self, path: Path) -> socket.socket | None:
        """The socket at this path, symlinks followed; None if it was not handed over."""
        wanted = os.path.realpath(path)
        for one in self._left:
            if one.socket.family == socket.AF_UNIX and _path_of(one.socket) == wanted:
                return self._take(one)
        return None

    def claim_tcp(self, family: int, address: Sequence[Any]) -> socket.socket | None:
        """The socket at a host's address and port, as the resolver gives them; None: not handed."""
        for one in self._left:
            if one.socket.family == family and one.socket.getsockname()[:2] == tuple(address[:2]):
                return self._take(one)
        return None

    def _take(self, one: HandedSocket) -> socket.socket:
        self._left.remove(one)
        return one.socket


def _path_of(one: socket.socket) -> str | None:
    """The path of a Unix socket; one in the abstract namespace, or without a name, has none."""
    name = one.getsockname()
    return os.path.realpath(name) if isinstance(name, str) and name else None

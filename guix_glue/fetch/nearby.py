"""Servers that were found on the local network: which of them are asked, and how they are noted.

Whoever is on a network can announce anything there. So it is addresses only that count, not names
that somebody would have to resolve; few servers are asked; and none on this machine, where a
request could reach what is meant for its users alone. What servers say of items is believed no more
than of those that somebody named: the marks of `Server.nearby` are for what is granted less.

They are noted as `guix discover` does it (guix/scripts/discover.scm): a file with a line
`http://ADDRESS:PORT` for each; we leave out the port of HTTP.
"""

from __future__ import annotations

import os
import random
import re
import socket
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from guix_glue.local.files import open_regular, replace_file
from guix_glue.servers.url import InvalidServer, Server, parse_server

__all__ = ["MAX_NEARBY", "Noted", "NotedServers", "choose", "discovered_by_guix", "nearby_server"]

MAX_NEARBY: Final = 8
"""How many are asked: each takes memory of what is there for answers. Stock Guix asks 50."""

KEPT_S: Final = 120.0
"""How long what was found is used: as long as addresses are announced for (RFC 6762, 10)."""
FRESH_S: Final = 30.0
"""How long it is not looked anew. That nothing was found holds for no longer."""

_LARGEST: Final = 64 * 1024
"""Bytes that are read of a file: some two thousand lines."""
_LINE: Final = re.compile(
    r"http://(?:([0-9.]{7,15})|\[([0-9A-Za-z:.%_~-]{2,64})\])(?::([0-9]{1,5}))?/?"
)
_HTTP: Final = 80
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def nearby_server(address: str, port: int) -> Server | None:
    """The server at an IPv4 or IPv6 address, with a zone if need be; None for what is not asked.

    These are addresses that no single other machine has: of this one, of none, of many.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast or parsed.is_reserved:
        return None
    if not 0 < port < 65536 or _is_own(address):
        return None
    host = f"[{address.replace('%', '%25')}]" if isinstance(parsed, IPv6Address) else address
    try:
        return replace(parse_server(f"http://{host}:{port}"), nearby=True)
    except InvalidServer:
        return None


def choose(found: Iterable[Server], named: Sequence[Server]) -> list[Server]:
    """Those that are asked, in their order: once each, and some by lot where there are many.

    Those that somebody named are asked as such.
    """
    others = [server for server in dict.fromkeys(found) if server not in named]
    if len(others) <= MAX_NEARBY:
        return others
    return random.sample(others, MAX_NEARBY)


def discovered_by_guix(state_dir: str) -> list[Server] | None:
    """What `guix discover` has found, below a daemon's state directory; None if there is no file.

    Lines that name no server are passed over. Raises: OSError.
    """
    try:
        with open(open_regular(f"{state_dir}/discover/publish"), "rb") as file:
            return _parse(file.read(_LARGEST))
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Noted:
    """What was found, and whether that is as good as looking again."""

    servers: tuple[Server, ...]
    is_fresh: bool


class NotedServers:
    """What was found last, for the next process; `now` gives the seconds since the epoch."""

    def __init__(self, directory: str, *, now: Callable[[], float] = time.time) -> None:
        self._file = Path(directory, "nearby")
        self._now = now

    def read(self) -> Noted | None:
        """What was found if that was not long ago; else None."""
        with suppress(OSError):
            descriptor = os.open(self._file, _READ)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                age_s = self._now() - status.st_mtime
                if _is_ours(status) and 0 <= age_s < KEPT_S:
                    noted = Noted(tuple(_parse(file.read(_LARGEST))), age_s < FRESH_S)
                    return noted if noted.servers or noted.is_fresh else None
        return None

    def write(self, servers: Iterable[Server]) -> None:
        """Note what was found; where that cannot be written nothing is."""
        lines = "".join(f"{server.url}\n" for server in servers)
        with suppress(OSError):
            self._file.parent.mkdir(0o700, parents=True, exist_ok=True)
            replace_file(self._file, lines.encode(), 0o600)


def _is_ours(status: os.stat_result) -> bool:
    """Whether it is a file that we wrote."""
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return ours and stat.S_ISREG(status.st_mode)


def _parse(text: bytes) -> list[Server]:
    servers = []
    for line in text.decode("ascii", "replace").split("\n"):
        if (match := _LINE.fullmatch(line)) is not None:
            address = match[1] or match[2].replace("%25", "%")
            servers.append(nearby_server(address, int(match[3] or _HTTP)))
    return [server for server in servers if server is not None]


def _is_own(address: str) -> bool:
    """Whether it is one of this machine's, or cannot be reached; nothing is sent.

    What goes to an address of this machine has that very address as its source, too.
    """
    try:
        found = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, _, _, _, where = found[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(where)
            return bool(probe.getsockname()[0] == where[0])
    except OSError:
        return True

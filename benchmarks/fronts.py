"""A server of PostgreSQL, and front ends of its databases, to be measured."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.growth import _processor_time
from benchmarks.wire import kaplad
from tests.postgres import Server

__all__ = [
    "SETTINGS",
    "Front",
    "ServerClock",
    "database",
    "front_end",
    "front_ends",
    "name_of",
    "scratch",
]

_CSM: Final = bytes.fromhex("50e12310000020")
# What docs/scale.md advises, for a small machine. A commit is as durable as with none of it.
SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Nobody copies it: what fills a new table is not logged then, and what a PUT does is.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class Front(NamedTuple):
    """A running daemon, and a connection to it."""

    process: int
    connection: socket.socket


class ServerClock:
    """What the server's processes use from now on; those that end meanwhile do not count."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._now()

    def seconds(self) -> float:
        """Processor time until now."""
        now = self._now()
        return sum(time - self._before.get(process, 0.0) for process, time in now.items())

    def _now(self) -> dict[int, float]:
        first = self._server.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        found = {}
        for process in (first, *map(int, children)):
            with suppress(FileNotFoundError, ProcessLookupError):
                found[process] = _processor_time(process)
        return found


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        yield Path(name)


@contextmanager
def database(server: Server) -> Iterator[str]:
    """A database of its own, which goes afterwards: its disk is wanted."""
    url = server.make_database()
    try:
        yield url
    finally:
        server.execute(f"DROP DATABASE {name_of(url)} WITH (FORCE)")


def name_of(url: str) -> str:
    """What the server calls a database."""
    return url.partition("@/")[2].partition("?")[0]


@contextmanager
def front_end(directory: Path, store: str | None) -> Iterator[Front]:
    """A front end of a database, or the daemon of a file in the directory."""
    with kaplad(directory, store) as (_, _, process), _connected(directory) as connection:
        yield Front(process, connection)


@contextmanager
def _connected(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory / "s"))
        connection.sendall(_CSM)
        yield connection


@contextmanager
def front_ends(url: str, count: int, clients: int = 2) -> Iterator[list[Front]]:
    """So many front ends over a database, and so many clients, which share them."""
    with ExitStack() as stack:
        directories = [stack.enter_context(scratch()) for _ in range(count)]
        processes = [stack.enter_context(kaplad(one, url))[2] for one in directories]
        yield [
            Front(
                processes[place % count],
                stack.enter_context(_connected(directories[place % count])),
            )
            for place in range(clients)
        ]

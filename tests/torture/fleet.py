"""A PostgreSQL server and several front ends of one database: each can be killed and started."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psycopg

# Here, and not in each child.
import kapla.storage.postgresql.backend  # noqa: F401
from kapla import __main__
from kapla.pinning import Pins
from kapla.remote_store import RemoteStore
from kapla.storage.postgresql import settings as database_settings
from kapla.urls import parse_store_url
from tests.postgres import Server
from tests.torture.front_plants import FRONT_PLANTS
from tests.torture.history import Fault
from tests.torture.processes import GUARD_S, Daemon, set_environment

__all__ = ["FRONTS", "Fleet", "make_server"]

FRONTS: Final = 3
_GENERATION: Final = 1 << 18
"""What takes millions of blocks to happen happens after some hundreds."""

# As it is installed, but for what only a power cut brings out. A server that is killed may leave a
# page half written.
_SERVER: Final = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "on",
    "checkpoint_timeout": "30s",
    # What nobody waits for is written late.
    "wal_writer_delay": "10s",
}
_PAUSE_S: Final = 0.02
_BUSY: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND state <> 'idle' AND xact_start < %s
"""


def make_server() -> Server:
    """A server for many databases. Skips where there is no PostgreSQL."""
    # What is preloaded here is not for its processes.
    os.environ.pop("LD_PRELOAD", None)
    return Server(_SERVER)


class Fleet:
    """Three front ends of a new database."""

    def __init__(
        self, server: Server, place: Path, settings: dict[str, str], plant: str | None = None
    ) -> None:
        self._server, self._settings, self._plant = server, settings, plant
        self.url = server.make_database()
        self.sockets = [place / str(number) / "s" for number in range(FRONTS)]
        for socket in self.sockets:
            socket.parent.mkdir()
        self._daemons: dict[int, Daemon] = {}
        self.texts: list[bytes] = []
        """What those said that have ended."""

    @property
    def running(self) -> list[Daemon]:
        """The front ends that were started and not yet ended."""
        return list(self._daemons.values())

    def start(self) -> None:
        """Start all that are not running, and wait until they serve. Raises: Fault."""
        missing = [number for number in range(FRONTS) if number not in self._daemons]
        for number in missing:
            self._daemons[number] = self._start(self.sockets[number])
        for number in missing:
            if not self._daemons[number].wait_until_ready():
                raise Fault(f"a front end does not start: {_text(self._daemons[number])}")

    def _start(self, socket: Path) -> Daemon:
        def run(_: int) -> None:
            set_environment(socket.parent, self._settings)
            sys.argv = ["kaplad", "--store", self.url, "--listen", f"coap+unix://{socket}"]
            planted = FRONT_PLANTS[self._plant] if self._plant else nullcontext
            with patch.object(database_settings, "_LEAST_GENERATION", _GENERATION), planted():
                __main__.main()

        return Daemon(run)

    def end(self, number: int, signal_number: int) -> None:
        """Send a front end a signal by which it ends, and wait for that. Raises: Fault."""
        daemon = self._daemons.pop(number, None)
        if daemon is None:
            return
        daemon.signal(signal_number)
        code = daemon.wait()
        self.texts.append(daemon.text)
        if b"Traceback" in daemon.text:
            raise Fault(f"a front end failed: {_text(daemon)}")
        if code not in (0, -signal_number):
            raise Fault(f"a front end ended with {code}: {_text(daemon)}")

    def kill_server(self) -> None:
        """All its processes at once, and start it again, which mends what was under way."""
        self._server.kill()
        self._server.start()

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def settle(self) -> None:
        """Wait until all is done that those asked for who are gone. Raises: Fault."""
        end = time.monotonic() + GUARD_S
        for socket in self.sockets:
            # A front end does what it was asked for, though nobody waits for the answer.
            asyncio.run(_wait_until_alone(socket, end))
        with psycopg.connect(self.url, autocommit=True) as connection:
            [(now,)] = connection.execute("SELECT now()").fetchall()
            while connection.execute(_BUSY, (now,)).fetchone() != (0,):
                if time.monotonic() > end:
                    raise Fault("the server is still at work for those who are gone")
                time.sleep(_PAUSE_S)

    def close(self) -> None:
        """End all, and remove the database."""
        for daemon in self.running:
            daemon.kill()
        name = self.url.partition("@/")[2].partition("?")[0]
        self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _wait_until_alone(socket: Path, end: float) -> None:
    async with RemoteStore(parse_store_url(f"coap+unix://{socket}")) as store:
        while (await store.stat())["connections"]["now"] > 1:
            if time.monotonic() > end:
                raise Fault("a front end is still at work for those who are gone")
            await asyncio.sleep(_PAUSE_S)
        # Pins are seen to one after the other: after the answer nothing of before is left.
        async for _ in Pins(store).list():
            pass


def _text(daemon: Daemon) -> str:
    return daemon.text.decode(errors="replace")[-3000:]

"""A real `kaplad` with doors by HTTP, something that is lent and something that is not."""

from __future__ import annotations

import http.client
import random
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from eris import BlockSize, Reference
from tests.integration.commands import blocks_of
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.here import User

__all__ = ["PRIVATE", "PUBLIC", "HttpDaemon", "Reply", "http_daemon"]

_LARGE = random.Random(5).randbytes(180_000)
PUBLIC = [
    *blocks_of(_LARGE, BlockSize.LARGE),
    *blocks_of(b"open to all", BlockSize.SMALL),
]
"""What is lent: six large blocks, and the small one of `SMALL`."""
PRIVATE = blocks_of(b"nobody's business", BlockSize.SMALL)
"""What is there and not lent."""


@dataclass(frozen=True)
class Reply:
    """An answer by HTTP."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpDaemon:
    """A daemon, and what asks at its doors."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def http_port(self) -> int:
        """Where lent blocks are, in this run."""
        return self._port("Listening on ")

    @property
    def admin_port(self) -> int:
        """Where the daemon is told of, in this run."""
        return self._port("Telling of the daemon on ")

    @property
    def url(self) -> str:
        """The door's URL."""
        return f"http://127.0.0.1:{self.http_port}"

    def connect(self) -> http.client.HTTPConnection:
        """A client of the door."""
        return http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=GUARD_S)

    def ask(
        self,
        target: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        admin: bool = False,
    ) -> Reply:
        """Ask once."""
        port = self.admin_port if admin else self.http_port
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD_S)
        try:
            return ask_on(client, target, method, body, headers)
        finally:
            client.close()

    def raw(self, sent: bytes = b"", *, little: bool = False) -> socket.socket:
        """A connection to the door on which this was sent; `little`: it takes little at a time."""
        one = socket.socket()
        one.settimeout(GUARD_S)
        if little:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", self.http_port))
        one.sendall(sent)
        return one

    @contextmanager
    def connect_twice(self) -> Iterator[Callable[[], bool]]:
        """A client that is there before and asks later; gives what tells whether it is answered."""
        client = self.connect()
        try:
            assert ask_on(client, "/").status == 200
            yield lambda: ask_on(client, "/").status == 200
        finally:
            client.close()

    def _port(self, told: str) -> int:
        self.daemon.wait_for_log(told + "http://")
        return int(re.findall(told + r"http://\S+:(\d+)", self.daemon.log)[-1])


def ask_on(
    client: http.client.HTTPConnection,
    target: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Ask on a connection."""
    client.request(method, target, body, dict(headers or {}))
    response = client.getresponse()
    return Reply(response.status, response.read(), dict(response.getheaders()))


@contextmanager
def http_daemon(
    tmp_path: Path, *args: str, env: Mapping[str, str] | None = None
) -> Iterator[HttpDaemon]:
    """A daemon with both doors, on free ports, unless `args` say where; `PUBLIC` is lent there."""
    doors = args or ("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with running_daemon(tmp_path, *doors, env=env) as daemon:
        me = User(tmp_path, daemon.url)
        me("encode", "--no-pin", "--lend", "-", stdin=_LARGE)
        me("encode", "--no-pin", "--lend", "-", stdin=b"open to all")
        me("encode", "--no-pin", "-", stdin=b"nobody's business")
        yield HttpDaemon(daemon)
        assert "Traceback" not in daemon.log


def names(references: list[Reference]) -> bytes:
    """The body of a batch."""
    return b"".join(references)

"""A proxy for tests: it passes requests on to where a table says, and remembers them."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.guix_glue.fetch.fakes import scripted_server

__all__ = ["FakeProxy", "running_proxy"]


class FakeProxy:
    """`targets` maps HOST:PORT to URLs of this machine; with a `status` it only answers that."""

    def __init__(self, targets: Mapping[str, str], status: int | None = None) -> None:
        self.targets = dict(targets)
        self._status = status
        self.url = ""
        self.heads: list[str] = []
        self.piled_up = False
        """Whether a request came before the one in front of it was answered."""

    @property
    def asked(self) -> list[str]:
        """Methods and targets."""
        return [" ".join(head.split(" ")[:2]) for head in self.heads]

    @property
    def authority(self) -> str:
        """Where it listens."""
        return self.url.removeprefix("http://")

    def serve(self, connection: socket.socket) -> None:
        """A connection of a client, to its end."""
        while data := connection.recv(1 << 16):
            head, end, rest = data.partition(b"\r\n\r\n")
            self.piled_up |= bool(rest) or not end
            self.heads.append(head.decode())
            if self._status is not None:
                connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self._status)
            elif head.startswith(b"CONNECT "):
                self._tunnel(connection, head.split()[1].decode())
                return
            else:
                connection.sendall(self._ask(head.decode()))

    def _connect(self, authority: str) -> socket.socket:
        target = urlsplit(self.targets[authority])
        return socket.create_connection((target.hostname, target.port))

    def _ask(self, head: str) -> bytes:
        match = re.match(r"GET http://([^/]+)(/\S*) (.*)", head, re.DOTALL)
        assert match, head
        with self._connect(match[1]) as server:
            server.sendall(f"GET {match[2]} {match[3]}\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: server.recv(1 << 16), b""))

    def _tunnel(self, connection: socket.socket, authority: str) -> None:
        with self._connect(authority) as server:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, connection), daemon=True)
            back.start()
            _copy(connection, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever waits for either learns it, which closing alone does not do.
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_proxy(targets: Mapping[str, str], status: int | None = None) -> Iterator[FakeProxy]:
    """A proxy, until the end of the context."""
    proxy = FakeProxy(targets, status)
    with scripted_server(proxy.serve) as url:
        proxy.url = url
        yield proxy

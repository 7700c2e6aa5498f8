"""A server that answers each request by the next line of a script, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.guix_glue.fetch.fakes import scripted_server

__all__ = ["Answer", "Scripted", "answer", "rest_of", "scripted"]

Answer = bytes | Callable[[str], bytes]
"""What is sent, or what makes it out of the head of a request."""


def answer(body: bytes, *headers: str, status: int = 200, cut: int | None = None) -> bytes:
    """An answer with its length, of which only `cut` bytes of the body come."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body[:cut]


def rest_of(body: bytes, *headers: str) -> Callable[[str], bytes]:
    """The part of a body that is asked for by a range without an end."""

    def made(head: str) -> bytes:
        start = int(_header(head, "Range").removeprefix("bytes=").removesuffix("-"))
        place = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        return answer(body[start:], place, *headers, status=206)

    return made


class Scripted:
    """Sends the answers in turn, the last one again and again, and closes after each."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)
        self._lock = threading.Lock()
        self.url = ""
        self.heads: list[str] = []

    @property
    def ranges(self) -> list[tuple[str, str]]:
        """Of each request the headers `Range` and `If-Range`."""
        return [(_header(head, "Range"), _header(head, "If-Range")) for head in self.heads]

    def serve(self, connection: socket.socket) -> None:
        """One request."""
        head = connection.recv(1 << 16)
        with self._lock:
            if not head:
                return
            self.heads.append(head.decode())
            data = self._answers[min(len(self.heads), len(self._answers)) - 1]
        connection.sendall(data if isinstance(data, bytes) else data(self.heads[-1]))


def _header(head: str, name: str) -> str:
    return next(
        (line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}: ")), ""
    )


@contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """Such a server, until the end of the context."""
    server = Scripted(answers)
    with scripted_server(server.serve) as url:
        server.url = url
        yield server

"""What greedy clients of a mirror leave the others, with an upstream that answers when told to."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.guix_glue.publish.support import SAMPLES, Publisher, publishing, wait_until
from tests.integration.daemon import GUARD_S

TRUST = ("--acl", SAMPLES / "keys" / "acl")
REQUEST = "GET /{}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n"
PLACES = 32


class PatientUpstream:
    """A server that has nothing, and says so as often as it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._changed = threading.Condition()
        self._answers = threading.Semaphore(0)
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with upstream._changed:
                    upstream.asked.append(self.path[1:33])
                    upstream._changed.notify_all()
                upstream._answers.acquire(timeout=GUARD_S)
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None: ...

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, count: int = 1) -> None:
        """Answer so many requests, now or when they come."""
        self._answers.release(count)

    def wait_for(self, count: int) -> list[str]:
        """Wait until it was asked so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, GUARD_S), self.asked
            return list(self.asked)


@contextmanager
def patient_upstream() -> Iterator[PatientUpstream]:
    upstream = PatientUpstream()
    threading.Thread(target=upstream.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield upstream
    finally:
        upstream.answer(10_000)
        upstream.server.shutdown()
        upstream.server.server_close()


def greedy(mirror: Publisher, number: int, count: int = 4000) -> socket.socket:
    """A connection that asks for many names at once."""
    connection = mirror.connect()
    names = (f"{number:05d}{n:027d}" for n in range(count))
    threading.Thread(
        target=_send, args=(connection, "".join(map(REQUEST.format, names))), daemon=True
    ).start()
    return connection


def _send(connection: socket.socket, text: str) -> None:
    with suppress(OSError):
        connection.sendall(text.encode())


def sockets_of(mirror: Publisher) -> int:
    """How many it has open."""
    directory = f"/proc/{mirror.pid}/fd"
    count = 0
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            count += os.readlink(f"{directory}/{name}").startswith("socket:")
    return count


@pytest.mark.parametrize("count", [2, 60])
def test_who_asks_one_thing_is_next(count: int, tmp_path: Path) -> None:
    wanted = "9" * 32
    with (
        patient_upstream() as upstream,
        publishing(tmp_path, *TRUST, "--upstream", upstream.url) as mirror,
        ExitStack() as stack,
    ):
        for number in range(count):
            stack.enter_context(greedy(mirror, number))
        # All places that they may have are taken.
        before = len(upstream.wait_for(PLACES if count > 2 else 24))
        connection = stack.enter_context(mirror.connect())
        connection.settimeout(GUARD_S)
        first = b"GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(first + REQUEST.format(wanted).encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        for more in (1, 2, 3):
            # With two greedy ones there are places left; of many, some must be answered first.
            if count > 2:
                upstream.answer()
            if wanted in upstream.wait_for(before + more):
                break
        assert wanted in upstream.asked
        upstream.answer(10_000)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 404")


def test_what_a_client_asked_for_that_has_gone_is_not_passed_on(tmp_path: Path) -> None:
    with (
        patient_upstream() as upstream,
        publishing(tmp_path, *TRUST, "--upstream", upstream.url) as mirror,
    ):
        # Of more requests the server would not read on, and not see their end.
        connections = [greedy(mirror, number, 20) for number in range(60)]
        upstream.wait_for(PLACES)
        for connection in connections:
            # Of one that only sends no more, the answers would be wanted.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        wait_until(lambda: sockets_of(mirror) < 60, "the mirror to see that they have gone")
        upstream.answer(10_000)
        assert mirror.request(f"/{'9' * 32}.narinfo").status == 404
        assert len(upstream.asked) <= 2 * PLACES
        assert mirror.log.count("\n") < 10

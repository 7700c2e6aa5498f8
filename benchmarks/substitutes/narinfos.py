"""Narinfos through a proxy whose servers misbehave, against one with a good server alone.

Two proxies ask the same server; one of them has two more in front of it, of which one takes no
connections, without a word, and one sends a byte and no more. A client asks each for 100 items
that it has not been asked for before, over one connection, all at once, as stock Guix does.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from tests.guix_glue.fetch.fakes import FakeServer, running_server, scripted_server
from tests.guix_glue.fetch.support import make_item, narinfo_of, plain_url
from tests.guix_glue.proxy.running import TRUST, proxying
from tests.guix_glue.publish.support import Publisher

__all__ = ["run"]

_ITEMS: Final = 100
_BAR: Final = 1.2


def _dripping(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nS")


@contextmanager
def _dead() -> Iterator[str]:
    """A server that never accepts: once its queue is full the system drops what comes."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _publish(server: FakeServer, directory: Path, number: int) -> list[str]:
    """Have a server offer so many more items; returns their hash parts."""
    file = directory / "file"
    file.write_bytes(b"%d" % number)
    parts = []
    for each in range(_ITEMS):
        made = make_item(file, f"{number:016d}{each:016d}-x")
        server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, [plain_url(made)])
        parts.append(made.item.hash_part)
    return parts


def _ask(proxy: Publisher, parts: list[str]) -> float:
    """How long it takes to be told of all items, in seconds."""
    request = "GET /{}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n"
    with proxy.connect() as connection:
        began = time.monotonic()
        connection.sendall("".join(map(request.format, parts)).encode())
        received = bytearray()
        while received.count(b"FileSize:") < len(parts):
            data = connection.recv(1 << 20)
            assert data, "the proxy has closed the connection"
            received += data
        took = time.monotonic() - began
    assert received.count(b"HTTP/1.1 200") == len(parts)
    return took


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds."""
    beside, alone = [], []
    with (
        tempfile.TemporaryDirectory(prefix="kb-") as name,
        running_server() as server,
        scripted_server(_dripping) as slow,
        _dead() as dead,
    ):
        directory = Path(name)
        (directory / "one").mkdir()
        (directory / "three").mkdir()
        with (
            proxying(directory / "one", [server.url], *TRUST) as one,
            proxying(directory / "three", [dead, slow, server.url], *TRUST) as three,
        ):
            for number in range(rounds):
                alone.append(_ask(one, _publish(server, directory, 2 * number)))
                beside.append(_ask(three, _publish(server, directory, 2 * number + 1)))
    name = f"{_ITEMS} narinfos: a dead, a dripping and a good server ÷ the good one alone"
    return [compare(name, beside, alone, "s", _BAR, at_most=True)]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

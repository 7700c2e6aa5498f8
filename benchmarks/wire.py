"""Blocks a second over the wire: kaplad and its client against python-eris and aiocoap.

`daemon`: the same raw client, which does nothing but keep 64 requests in flight, against either
server. `stack`: each side's own client against its own server. kaplad keeps the blocks in SQLite,
committed before it answers; python-eris's server keeps them in a dict.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.report import Row, compare, format_row, heading
from eris import BlockSize, Reference, reference_of
from kapla.client import RemoteStore
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, FrameReader, format_frame
from kapla.urls import parse_store_url

__all__ = ["RawClient", "blocks_of_round", "kaplad", "measure_client", "run"]

_WINDOW: Final = 64
_RECEIVED: Final = 1 << 18
_COUNTS: Final = {BlockSize.SMALL: 6400, BlockSize.LARGE: 960}
_BARS: Final = {
    ("daemon", "put", BlockSize.SMALL): (5, 8),
    ("daemon", "get", BlockSize.SMALL): (6, 10),
    ("daemon", "put", BlockSize.LARGE): (1.1, 1.5),
    ("daemon", "get", BlockSize.LARGE): (2, 4),
    ("stack", "put", BlockSize.SMALL): (6, 10),
    ("stack", "get", BlockSize.SMALL): (8, 10),
    ("stack", "put", BlockSize.LARGE): (1.5, 2.5),
    ("stack", "get", BlockSize.LARGE): (3, 5),
}
_CSM: Final = bytes.fromhex("50e12310000020")


@contextmanager
def kaplad(
    directory: Path, store: str | None = None, **settings: str
) -> Iterator[tuple[str, int, int]]:
    """Start a daemon; gives its socket URL, its TCP port and its process number.

    `store`: the URL of a database; else its store is a file in the directory. `settings`: for its
    environment, as `KAPLA_MAX_SIZE`.
    """
    url = f"coap+unix://{directory}/s"
    program = Path(sys.executable).with_name("kaplad")
    arguments = ["--store", store or str(directory / "b.sqlite"), "--listen", url]
    arguments += ["--listen", "coap+tcp://127.0.0.1:0?get&put"]
    with subprocess.Popen(
        [program, *arguments], stderr=subprocess.PIPE, text=True, env={**os.environ, **settings}
    ) as process:
        assert process.stderr is not None
        try:
            port = None
            while port is None:
                line = process.stderr.readline()
                if not line:
                    raise RuntimeError("kaplad did not start")
                if "Listening on TCP" in line:
                    port = int(line.rsplit(":", 1)[1])
            yield url, port, process.pid
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def _python_eris_server() -> Iterator[int]:
    script = Path(__file__).with_name("peers") / "python_eris_server.py"
    with subprocess.Popen([_peer_python(), script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def _python_eris_client(port: int) -> Iterator[Any]:
    script = Path(__file__).with_name("peers") / "python_eris_client.py"
    url = f"coap+tcp://127.0.0.1:{port}/.well-known/eris"
    with subprocess.Popen(
        [_peer_python(), script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:

            def ask(operation: str, size: BlockSize, seed: int) -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                count = _COUNTS[size]
                print(operation, int(size), count, seed, file=process.stdin, flush=True)
                return count / float(json.loads(process.stdout.readline())["seconds"])

            yield ask
        finally:
            process.kill()


def _peer_python() -> str:
    return os.environ.get("KAPLA_PEERS_PYTHON", ".venv-peers/bin/python")


def blocks_of_round(size: BlockSize, seed: int) -> list[bytes]:
    """Random blocks, the same each time for the same seed."""
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(_COUNTS[size])]


class RawClient:
    """Sends finished requests, as many at a time as answers have come."""

    def __init__(
        self, address: str | tuple[str, int], context: ssl.SSLContext | None = None
    ) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.connect(address)
        if family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._socket = context.wrap_socket(self._socket)
        self._socket.sendall(_CSM)
        self._reader = FrameReader(1 << 20)

    def measure(self, operation: str, size: BlockSize, seed: int) -> float:
        """One round; returns requests a second."""
        blocks = blocks_of_round(size, seed)
        if operation == "put":
            options = put_options(()) + b"\xff"
            bodies = [options + block for block in blocks]
            code, good = Code.PUT, Code.CREATED
        else:
            bodies = [get_options((), block_query(reference_of(b)), size) for b in blocks]
            code, good = Code.GET, Code.NOT_FOUND if operation == "miss" else Code.CONTENT
        frames = deque(
            format_frame(code, number.to_bytes(3, "big"), body)
            for number, body in enumerate(bodies)
        )
        begin = time.perf_counter()
        sent = answered = 0
        room = _WINDOW
        while answered < len(blocks):
            part = [frames.popleft() for _ in range(min(room, len(frames)))]
            sent += len(part)
            if part:
                self._socket.sendall(b"".join(part))
            room = 0
            for frame in self._reader.feed(self._receive()):
                if frame[0] >= 0xE0:
                    continue
                if frame[0] != good:
                    raise RuntimeError(f"answer {frame[0]:#x} to {operation}")
                room += 1
            answered += room
        return len(blocks) / (time.perf_counter() - begin)

    def _receive(self) -> bytes:
        """Wait for something, and take what is there, up to 256 KiB."""
        data = self._socket.recv(_RECEIVED)
        if not isinstance(self._socket, ssl.SSLSocket):
            return data
        # OpenSSL gives a record of 16 KiB at a time.
        pieces, size = [data], len(data)
        self._socket.settimeout(0)
        with suppress(ssl.SSLWantReadError):
            while data and size < _RECEIVED:
                data = self._socket.recv(_RECEIVED - size)
                pieces.append(data)
                size += len(data)
        self._socket.settimeout(None)
        return b"".join(pieces)


async def measure_client(url: str, operation: str, size: BlockSize, seed: int) -> float:
    """One round of our own client; returns requests a second."""
    blocks = blocks_of_round(size, seed)
    references = [reference_of(block) for block in blocks]
    async with RemoteStore(parse_store_url(url)) as store:
        await store.connect()
        begin = time.perf_counter()
        requests: Iterator[Awaitable[Any]]
        if operation == "put":
            requests = (store.put(Reference(r), b) for r, b in zip(references, blocks, strict=True))
        else:
            requests = (store.get(Reference(r), size) for r in references)
        in_flight: deque[Awaitable[Any]] = deque()
        for request in requests:
            if len(in_flight) >= _WINDOW:
                await in_flight.popleft()
            in_flight.append(request)
        while in_flight:
            await in_flight.popleft()
        return len(blocks) / (time.perf_counter() - begin)


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    rates: dict[tuple[str, str, BlockSize], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-")))
        url, port, _ = stack.enter_context(kaplad(directory))
        peer_port = stack.enter_context(_python_eris_server())
        ask_peer = stack.enter_context(_python_eris_client(peer_port))
        ours = RawClient(str(directory / "s"))
        ours_tcp = RawClient(("127.0.0.1", port))
        peer = RawClient(("127.0.0.1", peer_port))
        tcp_url = f"coap+tcp://127.0.0.1:{port}"
        for number in range(rounds + 1):
            for size in BlockSize:
                for operation in ("put", "get"):
                    # Every side puts blocks of its own: nothing is there before.
                    seed = number * 10
                    found = {
                        "daemon": ours.measure(operation, size, seed),
                        "peer daemon": peer.measure(operation, size, seed + 1),
                        "tcp daemon": ours_tcp.measure(operation, size, seed + 2),
                        "stack": asyncio.run(measure_client(url, operation, size, seed + 3)),
                        "peer stack": ask_peer(operation, size, seed + 4),
                        "tcp stack": asyncio.run(
                            measure_client(tcp_url, operation, size, seed + 5)
                        ),
                    }
                    if number:  # the first round is for caches
                        for side, rate in found.items():
                            rates[side, operation, size].append(rate)
    rows = []
    for (side, operation, size), (bar, goal) in _BARS.items():
        name = f"{side}, {operation.upper()} {size.label}"
        here, there = rates[side, operation, size], rates[f"peer {side}", operation, size]
        rows.append(compare(f"{name} / python-eris", here, there, "blocks/s", bar, goal))
        tcp = rates[f"tcp {side}", operation, size]
        rows.append(compare(f"{name}, TCP / Unix", tcp, here, "blocks/s", 0.8))
    return rows


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

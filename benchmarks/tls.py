"""What TLS costs on the wire: kaplad over coaps+tcp:// against itself over coap+tcp://.

Both ends show their keys. `daemon`: the raw client of the wire benchmark; `stack`: our own client.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare
from benchmarks.wire import RawClient, measure_client
from eris import BlockSize
from kapla.identity.contexts import client_context
from kapla.identity.key import PeerKey
from kapla.identity.pair import load_or_make

__all__ = ["run"]

_BAR: Final = 0.55


@contextmanager
def _kaplad(directory: Path) -> Iterator[tuple[int, int, PeerKey]]:
    """A daemon: its port for TCP, its port for TLS, its key."""
    program = Path(sys.executable).with_name("kaplad")
    arguments = ["--store", str(directory / "b.sqlite")]
    for scheme in ("coap+tcp", "coaps+tcp"):
        arguments += ["--listen", f"{scheme}://127.0.0.1:0?get&put"]
    environment = {**os.environ, "STATE_DIRECTORY": str(directory)}
    with subprocess.Popen(
        [program, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        try:
            ports: list[int] = []
            while len(ports) < 2:
                line = process.stderr.readline()
                if not line:
                    raise RuntimeError("kaplad did not start")
                if "Listening on T" in line:
                    ports.append(int(line.split(" as ")[0].rsplit(":", 1)[1]))
            key = PeerKey.parse(line.split(" as ")[1].strip())
            yield ports[0], ports[1], key
        finally:
            process.terminate()
            process.communicate()


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    rates: dict[tuple[str, str, BlockSize], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="kb-") as name, _kaplad(Path(name)) as (tcp, tls, key):
        own = Path(name) / "client.pem"
        plain = RawClient(("127.0.0.1", tcp))
        secret = RawClient(("127.0.0.1", tls), client_context(load_or_make(own), key))
        plain_url = f"coap+tcp://127.0.0.1:{tcp}"
        tls_url = f"coaps+tcp://127.0.0.1:{tls}?key={own}#{key}"
        for number in range(rounds + 1):
            for size in BlockSize:
                for operation in ("put", "get"):
                    seed = number * 10
                    found = {
                        "daemon": plain.measure(operation, size, seed),
                        "daemon, TLS": secret.measure(operation, size, seed + 1),
                        "stack": asyncio.run(measure_client(plain_url, operation, size, seed + 2)),
                        "stack, TLS": asyncio.run(
                            measure_client(tls_url, operation, size, seed + 3)
                        ),
                    }
                    if number:  # the first round is for caches
                        for side, rate in found.items():
                            rates[side, operation, size].append(rate)
    return [
        compare(
            f"{side}, {operation.upper()} {size.label}, TLS / TCP",
            rates[f"{side}, TLS", operation, size],
            rates[side, operation, size],
            "blocks/s",
            _BAR,
        )
        for side in ("daemon", "stack")
        for size in BlockSize
        for operation in ("put", "get")
    ]

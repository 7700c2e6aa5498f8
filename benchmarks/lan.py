"""How long a daemon that has just started takes to its first block from one that it has to find.

    python -m benchmarks.lan [ROUNDS]

Two hosts on a bridge, in namespaces: needs root. From the start of the second daemon's process to
the block, asked for as soon as its socket is there; against the same with a peer that is configured
by its URL, in the same run. The bar is 2 s.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from eris.base32 import format_base32
from eris.crypto import reference_of
from kapla.coap.frame import Code
from tests.integration.daemon import RawPeer
from tests.integration.lan.sites import Host, HostDaemon, Sites, sites

_ROUNDS: Final = 10
_BLOCK: Final = bytes(1024)
_OPTIONS: Final = [
    (11, b".well-known"),
    (11, b"eris"),
    (11, b"blocks"),
    (15, format_base32(reference_of(_BLOCK)).encode()),
]


def main(rounds: int) -> None:
    """Measure, and print both."""
    with sites() as stack:
        made = Sites(stack)
        home = made.site("home", 1)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-")))
        listen = "coaps+tcp://0.0.0.0:0?get"
        desktop = HostDaemon(made.host(home), directory, "advertise = true\n", listen)
        stack.callback(desktop.kill)
        desktop.start()
        desktop.wait_for_log("Announced on the local network")
        with desktop.connect() as peer:
            peer.request(Code.PUT, options=_OPTIONS, payload=_BLOCK)
        url = f"coaps+tcp://{desktop.host.address}:{desktop.tls_port}#{desktop.key}"
        cases = {
            "found": f'discover = "lan"\ndiscover-networks = ["{home.entry}"]\n',
            "configured": f'[[peers]]\nurl = "{url}"\n',
        }
        laptop = made.host(home)
        took = {
            name: [_first_block(laptop, text) for _ in range(rounds)]
            for name, text in cases.items()
        }
    for name, seconds in took.items():
        print(f"{name}: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")


def _first_block(host: Host, settings: str) -> float:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-")))
        daemon = HostDaemon(host, directory, settings)
        stack.callback(daemon.kill)
        begin = time.perf_counter()
        daemon.spawn()
        peer = stack.enter_context(_connected(lambda: RawPeer.unix(daemon.socket)))
        answer = peer.request(Code.GET, options=_OPTIONS)
        seconds = time.perf_counter() - begin
        if answer.payload != _BLOCK:
            raise SystemExit(f"no block came: {answer.code}")
        return seconds


def _connected(connect: Callable[[], RawPeer]) -> RawPeer:
    """As soon as there is a socket."""
    while True:
        try:
            return connect()
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.005)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS)

"""A local network of namespaces, and programs of others on it: who looks around, who announces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.network import Home, Host, Line, Nat, Network, NetworkUnavailable, Plan, network
from benchmarks.network.tun import DEVICE
from tests.integration.daemon import GUARD_S

__all__ = [
    "Announced",
    "Seen",
    "address_of",
    "announcing",
    "lan",
    "looking",
    "plug_in",
    "selfish_responder",
    "unplug",
]

_NEAR = Line(rtt_ms=0, up_mbit_s=None, down_mbit_s=None)
_HOSTS = ("desk", "sofa", "bed")

# Plain zeroconf, nothing of ours: prints a line for each change.
_LOOK = """
import asyncio, json
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

KIND = "_guix_publish._tcp.local."
telling = set()

async def main():
    zeroconf = AsyncZeroconf()

    async def tell(change, name):
        info = AsyncServiceInfo(KIND, name)
        if change != "Removed":
            await info.async_request(zeroconf.zeroconf, 10000)
        facts = {"change": change, "name": name, "port": info.port, "text": info.text.hex(),
                 "addresses": info.parsed_addresses()}
        print(json.dumps(facts), flush=True)

    def note(zeroconf, service_type, name, state_change):
        task = asyncio.ensure_future(tell(state_change.name, name))
        telling.add(task)
        task.add_done_callback(telling.discard)

    AsyncServiceBrowser(zeroconf.zeroconf, [KIND], handlers=[note])
    await asyncio.Event().wait()

asyncio.run(main())
"""

# Services out of nothing, as many as are wanted: name, address and port of each on standard input.
_ANNOUNCE = """
import asyncio, json, sys
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

KIND = "_guix_publish._tcp.local."

async def main():
    zeroconf = AsyncZeroconf()
    await zeroconf.zeroconf.async_wait_for_start()
    for number, (name, address, port) in enumerate(json.load(sys.stdin)):
        info = AsyncServiceInfo(KIND, f"{name}.{KIND}", port=port, server=f"host-{number}.local.",
                                parsed_addresses=[address] if address else [])
        zeroconf.zeroconf.registry.async_add(info)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

_KEEP = """
import socket, time
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.bind(("", 5353))
print("ready", flush=True)
time.sleep(3600)
"""

Announced = tuple[str, str, int]
"""The name of a service, its address (empty: none), and its port."""


@contextmanager
def lan() -> Iterator[Network]:
    """A network whose hosts `desk`, `sofa` and `bed` are on one bridge; skips where none can be."""
    home = Home("home", _NEAR, Nat.PORT_PRESERVING, _HOSTS)
    try:
        with network(Plan((), (home,))) as made:
            yield made
    except NetworkUnavailable as error:
        pytest.skip(f"no network can be made here: {error}")


def address_of(name: str) -> str:
    """The address of a host on the bridge."""
    return f"192.168.77.{2 + _HOSTS.index(name)}"


def unplug(host: Host) -> None:
    """Leave a host without any network."""
    subprocess.run(
        host.command("ip", "address", "flush", "dev", DEVICE), check=True, timeout=GUARD_S
    )


def plug_in(host: Host, address: str) -> None:
    """Give a host that was unplugged its network again."""
    subprocess.run(
        host.command("ip", "address", "add", f"{address}/24", "dev", DEVICE),
        check=True,
        timeout=GUARD_S,
    )


@contextmanager
def selfish_responder(host: Host) -> Iterator[None]:
    """Something on a host that shares the port of multicast DNS with nobody."""
    with _running(host, _KEEP, "") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield


class Seen:
    """What somebody sees who looks for publishers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def next(self) -> dict[str, Any]:
        """The next change."""
        assert self._process.stdout is not None
        facts: dict[str, Any] = json.loads(self._process.stdout.readline())
        return facts


@contextmanager
def looking(host: Host) -> Iterator[Seen]:
    """Look for publishers on a host."""
    with _running(host, _LOOK, "") as process:
        yield Seen(process)


@contextmanager
def announcing(host: Host, services: Sequence[Announced]) -> Iterator[None]:
    """Answer on a host that there are these services."""
    with _running(host, _ANNOUNCE, json.dumps(services)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield


@contextmanager
def _running(host: Host, program: str, text: str) -> Iterator[subprocess.Popen[str]]:
    command = ["timeout", "-s", "KILL", str(2 * GUARD_S), sys.executable, "-c", program]
    process = subprocess.Popen(
        host.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    try:
        process.stdin.write(text)
        process.stdin.close()
        yield process
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

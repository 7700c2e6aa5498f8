"""A network of namespaces as programs on its hosts see it; root makes it, others leave it out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.network import (
    Home,
    Line,
    Nat,
    Network,
    NetworkUnavailable,
    Plan,
    Spot,
    network,
    sweep,
)
from tests.integration.daemon import wait_until

NEAR = Line(rtt_ms=0, up_mbit_s=None, down_mbit_s=None)
FAR = Line(rtt_ms=40, up_mbit_s=None, down_mbit_s=None)
PLAN = Plan(
    (Spot("server", NEAR), Spot("guest", FAR)),
    (
        Home("plain", NEAR, Nat.PORT_PRESERVING, ("desk",)),
        Home("strict", NEAR, Nat.SYMMETRIC, ("sofa", "bed")),
    ),
)
PORT = 5000
SERVE = """
import socket, sys
listening = socket.create_server(("0.0.0.0", 5000))
print("ready", flush=True)
while True:
    peer, (host, port) = listening.accept()
    peer.sendall(f"{host} {port}".encode())
    peer.close()
"""
# What comes from a port of its own is told where it came from; and how long it took.
ASK = """
import socket, sys, time
asking = socket.socket()
asking.bind(("", int(sys.argv[2])))
asking.settimeout(float(sys.argv[3]))
begin = time.monotonic()
try:
    asking.connect((sys.argv[1], 5000))
    took = time.monotonic() - begin
    print(asking.recv(100).decode(), took)
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    try:
        with network(PLAN) as made:
            yield made
    except NetworkUnavailable as error:
        pytest.skip(f"no network can be made here: {error}")


@pytest.fixture(scope="module", autouse=True)
def servers(net: Network) -> Iterator[None]:
    started = []
    for name in ("server", "sofa"):
        command = net.host(name).command(sys.executable, "-c", SERVE)
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        for server in started:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
        yield
    finally:
        for server in started:
            server.kill()
            server.communicate()


def ask(net: Network, who: str, whom: str, port: int, patience_s: float = 20) -> list[str]:
    """What a host is told by the server on another, or the name of its error."""
    address = net.host(whom).address
    command = net.host(who).command(sys.executable, "-c", ASK, address, str(port), str(patience_s))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_host_is_as_far_as_its_line_is_long(net: Network) -> None:
    host, _, took = ask(net, "guest", "server", 6000)
    assert host == net.host("guest").address
    assert float(took) > 0.035


def test_a_port_preserving_router_shows_its_address_and_the_port_inside(net: Network) -> None:
    for port in (6001, 6002):
        host, seen, _ = ask(net, "desk", "server", port)
        assert (host, int(seen)) == (net.host("plain").address, port)


def test_a_symmetric_router_gives_each_connection_another_port(net: Network) -> None:
    answers = [ask(net, who, "server", port) for who in ("sofa", "bed") for port in (6003, 6004)]
    assert {host for host, _, _ in answers} == {net.host("strict").address}
    ports = [int(seen) for _, seen, _ in answers]
    assert len(set(ports)) == 4
    # One of 60,000 may be the same by chance; not two.
    assert len(set(ports) & {6003, 6004}) <= 1


def test_nobody_comes_in_through_a_router(net: Network) -> None:
    assert ask(net, "server", "strict", 6005, 0.3) == ["TimeoutError"]


def test_groups_are_apart_until_they_are_joined(net: Network) -> None:
    net.part(["server"], ["guest"])
    assert ask(net, "guest", "server", 6006, 0.3) == ["TimeoutError"]
    assert len(ask(net, "bed", "server", 6007)) == 3
    net.join("guest")
    assert len(ask(net, "guest", "server", 6008)) == 3


def test_bytes_are_counted_line_by_line(net: Network) -> None:
    before = net.traffic()
    ask(net, "guest", "server", 6009)
    after = net.traffic()
    # Two packets, of 60 and 52 bytes, came before the answer; the others when they like.
    assert after["guest"].sent - before["guest"].sent >= 112
    assert after["server"].received - before["server"].received >= 112
    assert after["plain"] == before["plain"]


def test_what_somebody_left_who_was_killed_is_swept_and_nothing_else(net: Network) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for owner in (ended.pid, os.getpid()):
        subprocess.run(["ip", "netns", "add", f"kapla-{owner}-sweep"], check=True)
    try:
        left = sweep()
        assert f"kapla-{ended.pid}-sweep" in left
        assert f"kapla-{os.getpid()}-sweep" not in left
        there = {path.name for path in Path("/run/netns").iterdir()}
        assert f"kapla-{ended.pid}-sweep" not in there
        assert {net.host("sofa").namespace, f"kapla-{os.getpid()}-sweep"} <= there
    finally:
        subprocess.run(["ip", "netns", "del", f"kapla-{os.getpid()}-sweep"], check=True)


OWNER = """
import sys
from benchmarks.network import Line, Plan, Spot, network
with network(Plan((Spot("alone", Line(0, None, None)),))) as net:
    print(net.host("alone").namespace, flush=True)
    sys.stdin.read()
"""


def test_a_network_ends_with_whoever_made_it_even_by_sigkill(net: Network) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert name.endswith("-alone")
        command = ["nsenter", f"--net=/run/netns/{name}", "sh", "-c", "echo in; exec sleep 1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as inside:
            assert inside.stdout is not None
            assert inside.stdout.readline() == b"in\n"
            owner.kill()
            # Killed by the keeper, which has nobody left to work for.
            assert inside.wait(20) == -signal.SIGKILL
    wait_until(lambda: not Path("/run/netns", name).exists(), "the namespace to be gone")

"""What strangers do to a real daemon; afterwards it is as it was before."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from eris import reference_of
from kapla.coap.frame import Code
from tests.integration.daemon import GUARD_S, Daemon, RawPeer, program, running_daemon, wait_until
from tests.kapla.coap.harness import BLOCKS_PATH, LARGE, SMALL, request_bytes

NAME = (15, reference_of(LARGE))
REQUESTS = {
    "get": request_bytes(Code.GET, [*BLOCKS_PATH, NAME]),
    "slow get": request_bytes(Code.GET, [*BLOCKS_PATH, NAME, (23, b"\x06")]),
    "put": request_bytes(Code.PUT, BLOCKS_PATH, SMALL),
    "piece": request_bytes(Code.PUT, [*BLOCKS_PATH, (27, b"\x0e")], SMALL),
    "fetch": request_bytes(Code.FETCH, BLOCKS_PATH, bytes(32 * 64)),
    "nothing": request_bytes(Code.GET, [(11, b"nothing")]),
    "stat": request_bytes(Code.GET, [(11, b"kapla"), (11, b"stat")]),
}
STAT = [(11, b"kapla"), (11, b"stat")]
ROUNDS = 60
MOST = 40
"""Connections a listener takes here: fewer than come in one attack."""


@dataclass(frozen=True)
class Held:
    """What the daemon has of the system, besides memory."""

    connections: int
    files: int
    threads: int


def held(daemon: Daemon) -> Held:
    with daemon.connect() as peer:
        report = json.loads(peer.request(Code.GET, options=STAT).payload)
        # While we are there: of a connection that has just ended the daemon may have a file or not.
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        files = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    threads = re.search(r"Threads:\s*(\d+)", status)
    assert threads is not None
    return Held(report["connections"]["now"], files, int(threads.group(1)))


def is_as(before: Held, daemon: Daemon) -> bool:
    try:
        return held(daemon) == before
    except (AssertionError, OSError):  # refused: those who have gone are still being noticed
        return False


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(
        listen=["coap+tcp://127.0.0.1:0?get&put&stat"],
        env={"KAPLA_MAX_CONNECTIONS": str(MOST)},
    ) as running:
        with running.connect() as peer:
            for block in (SMALL, LARGE):
                assert peer.request(Code.PUT, options=BLOCKS_PATH, payload=block).code == 0x41
        yield running


@pytest.fixture(scope="module")
def before(daemon: Daemon) -> Held:
    """As it is with nobody there but who asks."""
    found: list[Held] = []

    def is_calm() -> bool:
        found.append(held(daemon))
        return found[-1].connections == 1

    wait_until(is_calm, "the daemon to be alone")
    return found[-1]


def reset(peer: RawPeer) -> None:
    """End the connection without a good-bye, and without reading."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def half_close(peer: RawPeer) -> None:
    """Ask no more; the answers come, and then the end."""
    peer.half_close()
    peer.rest()
    peer.close()


def close_after_one(peer: RawPeer) -> None:
    peer.response()
    reset(peer)


ENDS: list[Callable[[RawPeer], None]] = [reset, half_close, close_after_one]


@pytest.mark.parametrize("where", ["unix", "tcp"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("kind", REQUESTS)
def test_however_clients_end_they_leave_nothing(
    daemon: Daemon, before: Held, where: str, end: Callable[[RawPeer], None], kind: str
) -> None:
    connect = daemon.connect if where == "unix" else daemon.connect_tcp
    # More than there are places: one that is kept for somebody who has gone would be missed.
    for _ in range(ROUNDS if end is reset else 6):
        # While those who have gone are still being noticed, there may be no place.
        with suppress(BrokenPipeError, ConnectionResetError), connect() as peer:
            if end is reset:
                # More than are worked on at once, as far as they are taken without waiting.
                peer.socket.setblocking(False)
                peer.socket.send(REQUESTS[kind] * 300)
            else:
                peer.send(REQUESTS[kind] * 20)
            end(peer)
    wait_until(lambda: is_as(before, daemon), f"the daemon to be as before, {before}")
    with connect() as peer:
        asked = [*BLOCKS_PATH, NAME]
        assert peer.request(Code.GET, options=asked).payload == LARGE


def test_more_connections_than_places(daemon: Daemon, before: Held) -> None:
    peers = [daemon.connect_tcp() for _ in range(MOST + 5)]
    codes = [peer.rest()[-1].code for peer in peers[MOST:]]
    assert codes == [Code.ABORT] * 5
    # The other listener has places of its own.
    assert held(daemon).connections == MOST + 1
    for peer in peers:
        reset(peer)
    wait_until(lambda: is_as(before, daemon), f"the daemon to be as before, {before}")


def test_a_hang_up_does_not_end_it(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("Settings: nothing has changed")
    assert held(daemon).connections >= 1


def test_the_log_tells_nothing_of_all_that(daemon: Daemon) -> None:
    assert "Traceback" not in daemon.log
    assert "(ERROR)" not in daemon.log


@pytest.mark.parametrize("places", [64, 127])
def test_clients_that_come_while_it_stands_still_wait_in_a_queue(places: int) -> None:
    with running_daemon() as daemon:
        os.kill(daemon.pid, signal.SIGSTOP)
        waiting = []
        try:
            for _ in range(places):
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect(str(daemon.socket))
                waiting.append(client)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        for client in waiting:
            client.settimeout(GUARD_S)
            assert client.recv(1)
            client.close()


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """The daemon stands still, and its queue is full: a command goes on when there is a place."""
    (tmp_path / "file").write_text("content")
    with running_daemon() as daemon, ExitStack() as stack:
        os.kill(daemon.pid, signal.SIGSTOP)
        stack.callback(os.kill, daemon.pid, signal.SIGCONT)
        with suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(daemon.socket))
        command = [program("kapla"), "encode", "--no-cache", str(tmp_path / "file")]
        environment = {**os.environ, "ERIS_STORE_URL": daemon.url}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as encoding:
            stack.callback(encoding.kill)
            wait_until(lambda: is_connecting(encoding.pid), "the command to connect")
            os.kill(daemon.pid, signal.SIGCONT)
            assert encoding.communicate(timeout=GUARD_S)[0].startswith(b"urn:eris:")


def is_connecting(pid: int) -> bool:
    """Whether a command has come as far as to open its socket."""
    descriptors = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        return any("socket:" in os.readlink(one) for one in descriptors.iterdir())
    return False


def test_memory_is_given_back_when_a_crowd_has_gone() -> None:
    """Of answers that nobody takes."""
    listen = ["coap+tcp://127.0.0.1:0?get&put"]
    with running_daemon(listen=listen) as daemon, ExitStack() as stack:
        with daemon.connect() as peer:
            assert peer.request(Code.PUT, options=BLOCKS_PATH, payload=LARGE).code == 0x41
        before = daemon.anonymous_bytes()
        crowd = [stack.enter_context(daemon.connect_tcp()) for _ in range(100)]
        for peer in crowd:
            peer.send(REQUESTS["get"] * 200)
        wait_until(lambda: daemon.anonymous_bytes() > before + (64 << 20), "memory to be taken")
        for peer in crowd:
            reset(peer)
        wait_until(lambda: daemon.anonymous_bytes() < before + (32 << 20), "it to be given back")

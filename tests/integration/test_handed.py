"""Sockets that a service manager hands over: served, claimed by address, and never removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from kapla.client import RemoteStore
from kapla.coap.frame import Code
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, Daemon, RawPeer, program

STAT = [(11, b"kapla"), (11, b"stat")]


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        yield Path(name)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def unix(path: Path, opened: ExitStack, mode: int = 0o600) -> socket.socket:
    one = opened.enter_context(socket.socket(socket.AF_UNIX))
    one.bind(str(path))
    path.chmod(mode)
    one.listen(128)
    return one


def tcp(opened: ExitStack) -> tuple[socket.socket, str]:
    one = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
    return one, f"127.0.0.1:{one.getsockname()[1]}"


@contextmanager
def daemon_with(
    directory: Path, handed: list[socket.socket], *listen: str, args: tuple[str, ...] = ()
) -> Iterator[Daemon]:
    daemon = Daemon(directory, args, listen=listen)
    daemon.handed = handed
    try:
        yield daemon
    finally:
        daemon.kill()


def test_it_serves_on_them_by_the_rights_of_its_listeners(
    directory: Path, opened: ExitStack
) -> None:
    path = directory / "eris.sock"
    listening, place = tcp(opened)
    spare, admin = tcp(opened)
    sockets = [spare, listening, unix(path, opened)]
    listeners = (f"coap+unix://{path}?get&mode=0600", f"coap+tcp://{place}?put&stat")
    with daemon_with(directory, sockets, *listeners, args=("--admin", admin)) as daemon:
        daemon.start()
        with RawPeer.unix(path) as peer:
            assert peer.request(Code.GET, options=STAT).code == Code.CONTENT
            assert peer.request(Code.PUT, options=[(11, b"blocks")]).code == Code.FORBIDDEN
        with RawPeer.tcp("127.0.0.1", listening.getsockname()[1]) as peer:
            assert peer.request(Code.GET, options=STAT).code == Code.CONTENT
        with urlopen(f"http://{admin}/status", timeout=GUARD_S) as answer:
            assert answer.status == 200
        assert daemon.stop() == 0
        assert path.is_socket()
        assert not path.with_name("eris.sock.lock").exists()


def test_who_connects_between_two_daemons_is_served_by_the_second(
    directory: Path, opened: ExitStack
) -> None:
    path = directory / "eris.sock"
    with daemon_with(directory, [unix(path, opened)], f"coap+unix://{path}") as daemon:
        daemon.start()
        assert daemon.stop() == 0
        with RawPeer.unix(path) as early:
            early.send_message(Code.GET, b"t", STAT)
            daemon.start()
            assert early.response().code == Code.CONTENT


def test_a_restart_loses_no_connection(directory: Path, opened: ExitStack) -> None:
    path = directory / "eris.sock"
    with daemon_with(directory, [unix(path, opened)], f"coap+unix://{path}") as daemon:
        daemon.start()
        over = threading.Event()

        async def ask_again_and_again() -> int:
            count = 0
            while not over.is_set():
                async with RemoteStore(
                    parse_store_url(daemon.url), connect_timeout_s=GUARD_S, reconnect_s=GUARD_S
                ) as store:
                    assert (await store.stat())["connections"]["now"] > 0
                count += 1
            return count

        async def restart() -> list[int]:
            async with asyncio.timeout(4 * GUARD_S):
                asking = [asyncio.create_task(ask_again_and_again()) for _ in range(4)]
                try:
                    await asyncio.to_thread(daemon.restart)
                finally:
                    over.set()
                return await asyncio.gather(*asking)

        assert all(asyncio.run(restart()))


def test_what_nobody_has_configured_is_an_error_of_configuration(
    directory: Path, opened: ExitStack
) -> None:
    path = directory / "eris.sock"
    other, place = tcp(opened)
    sockets = [unix(path, opened), other]
    with daemon_with(directory, sockets, f"coap+unix://{path}") as daemon:
        daemon.spawn()
        assert daemon.wait() == 2
        assert f"TCP {place} (socket1) was handed over, and no listener has" in daemon.log
        assert path.is_socket()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("mode=0600", "handed over with mode 0666"),
        ("group=daemon", "handed over with another group"),
    ],
)
def test_a_socket_that_is_for_others_than_configured(
    directory: Path, opened: ExitStack, flags: str, said: str
) -> None:
    path = directory / "eris.sock"
    sockets = [unix(path, opened, 0o666)]
    with daemon_with(directory, sockets, f"coap+unix://{path}?{flags}") as daemon:
        daemon.spawn()
        assert daemon.wait() == 2
        assert said in daemon.log


def test_the_activation_of_systemd(directory: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("there is no systemd-socket-activate")
    path = directory / "eris.sock"
    command = [activate, "-l", str(path), program("kaplad"), "--store", str(directory / "store")]
    command += ["--listen", f"coap+unix://{path}"]
    process = subprocess.Popen(
        command, env={**os.environ, "HOME": str(directory)}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        # It says so when it listens; the daemon starts with the first who connects.
        while "Listening on" not in process.stderr.readline():
            assert process.poll() is None
        with RawPeer.unix(path) as peer:
            assert peer.request(Code.GET, options=STAT).code == Code.CONTENT
        process.terminate()
        assert process.wait(GUARD_S) == 0
    finally:
        process.kill()
        process.communicate(timeout=GUARD_S)
    assert path.is_socket()

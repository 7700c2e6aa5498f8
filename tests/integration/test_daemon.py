"""The life of a real `kaplad`: its start, what it refuses, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from eris import BlockNotFound, BlockSize, StoreUnavailable
from kapla.client import RemoteStore
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, format_frame, format_message
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon
from tests.integration.users import as_a_user
from tests.kapla.storage.databases import make_blocks

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((DEBUG|INFO|WARNING|ERROR)\): [^\n]*\n"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        yield Path(name)


class DefaultDaemon(Daemon):
    """A daemon that is told nothing, started as a user."""

    @property
    def command(self) -> list[str]:
        return [*as_a_user(), program("kaplad"), *self._args]


def refused(daemon: Daemon, code: int) -> str:
    """Start a daemon that must not run; returns the one line that it says."""
    daemon.spawn()
    assert daemon.wait() == code
    *log, line = daemon.log.splitlines(keepends=True)
    assert all(re.fullmatch(LINE, entry) for entry in log), daemon.log
    assert line.startswith("kaplad: ")
    assert "Traceback" not in daemon.log
    return line


def is_store(path: Path) -> bool:
    """Whether there is a sound database, closed as it should be."""
    leftovers = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    if any(leftover.exists() for leftover in leftovers):
        return False
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- the start --------------------------------------------------------------------------------


def test_the_first_line() -> None:
    with running_daemon() as daemon:
        lines = daemon.log.splitlines(keepends=True)
        assert all(re.fullmatch(LINE, line) for line in lines)
        listening = re.compile(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(INFO\): "
            rf"Listening on Unix socket {re.escape(str(daemon.socket))}\n"
        )
        assert listening.fullmatch(lines[-1])


def test_every_listener_is_named() -> None:
    with running_daemon(listen=["coap+tcp://127.0.0.1:0?get&put"]) as daemon:
        assert f"Listening on Unix socket {daemon.socket}\n" in daemon.log
        assert f"Listening on TCP 127.0.0.1:{daemon.tcp_port}\n" in daemon.log


def test_without_arguments_a_users_daemon_uses_the_users_places(directory: Path) -> None:
    places = {
        "XDG_RUNTIME_DIR": str(directory / "run"),
        "XDG_DATA_HOME": str(directory / "data"),
    }
    (directory / "run").mkdir()
    daemon = DefaultDaemon(directory, env=places)
    daemon.start()
    try:
        place = directory / "run" / "eris.sock"
        assert f"(INFO): Listening on Unix socket {place}\n" in daemon.log
        assert place.stat().st_mode & 0o777 == 0o600
        store = directory / "data" / "kapla" / "blocks.sqlite"
        assert store.stat().st_mode & 0o777 == 0o600
        # And the user's commands find it there.
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **places}
        found = subprocess.run(
            [*as_a_user(), program("kapla"), "stat", "--json"],
            env=environment,
            capture_output=True,
            check=True,
            timeout=GUARD_S,
        )
        assert json.loads(found.stdout)["blocks"] == {"1024": 0, "32768": 0}
        assert daemon.stop() == 0
        assert not place.exists()
    finally:
        daemon.kill()


def test_a_configuration_file(directory: Path) -> None:
    config = directory / "kapla.toml"
    config.write_text(
        f'store = "{directory}/here.sqlite"\n'
        f'listen = ["coap+unix://{directory}/a.sock", "coap+unix://{directory}/b.sock?get"]\n'
        'max-size = "1 GiB"\nlog-level = "debug"\n'
    )
    daemon = DefaultDaemon(directory, ["--config", str(config)], listen=["a", "b"])
    daemon.start()
    try:
        assert (directory / "here.sqlite").exists()
        assert (directory / "a.sock").exists()
        assert (directory / "b.sock").exists()
        assert "(DEBUG)" in daemon.log
        assert daemon.stop() == 0
    finally:
        daemon.kill()


@pytest.mark.parametrize("flag", ["-d", "--debug"])
def test_debug(flag: str) -> None:
    with running_daemon(None, flag) as daemon:
        assert "(DEBUG): " in daemon.log
    with running_daemon() as daemon:
        assert "(DEBUG): " not in daemon.log


def test_the_service_manager_is_told(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(GUARD_S)
        environment = {"NOTIFY_SOCKET": str(directory / "notify")}
        with running_daemon(env=environment) as daemon:
            assert manager.recv(4096) == b"READY=1"
            # Said only once it is true.
            with daemon.connect() as peer:
                assert peer.receive() is not None
            assert daemon.stop() == 0
            assert manager.recv(4096) == b"STOPPING=1"


def test_a_missing_service_manager_does_not_matter(directory: Path) -> None:
    with running_daemon(env={"NOTIFY_SOCKET": str(directory / "nobody")}) as daemon:
        assert daemon.stop() == 0


# --- what it refuses --------------------------------------------------------------------------


def test_a_socket_that_a_living_daemon_holds(directory: Path) -> None:
    with running_daemon() as first:
        second = Daemon(directory, listen=[first.url])
        line = refused(second, 1)
        assert f"cannot listen on {first.socket}: another daemon is answering there" in line
        # The first one did not notice, and its socket is still there after the second has gone.
        with first.connect() as peer:
            peer.send_message(Code.PING)
        assert first.stop() == 0


def test_a_store_that_a_living_daemon_uses(directory: Path) -> None:
    with running_daemon() as first:
        second = Daemon(directory, store=first.store)
        assert f"another daemon is using the store {first.store}" in refused(second, 1)
        assert not second.socket.exists()
        first.restart()


def test_the_socket_of_a_killed_daemon_is_replaced() -> None:
    with running_daemon() as daemon:
        daemon.kill()
        assert daemon.socket.exists()
        daemon.start()
        assert "Replacing the stale socket" in daemon.log
        with daemon.connect() as peer:
            assert peer.receive() is not None
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "hint"),
    [
        (["--listen", "ftp://h"], {}, "--listen: URL 1: "),
        (["--listen", "http://h"], {}, "--listen: URL 1: a listener speaks CoAP"),
        (["--listen", "coap+unix:///" + "x" * 107], {}, "108 bytes; the system takes 107"),
        (["--store", ""], {}, "--store: a path is expected"),
        (["--config", "missing.toml"], {}, "cannot read missing.toml: No such file"),
        ([], {"KAPLA_MAX_SIZE": "1"}, "$KAPLA_MAX_SIZE: a store has at least 1 MiB"),
        ([], {"KAPLA_LISTEN": "x"}, "$KAPLA_LISTEN: URL 1: "),
        ([], {"XDG_RUNTIME_DIR": "/" + "x" * 108}, "default socket"),
    ],
)
def test_a_wrong_configuration(
    directory: Path, arguments: Sequence[str], environment: dict[str, str], hint: str
) -> None:
    places = {"XDG_RUNTIME_DIR": str(directory), "XDG_DATA_HOME": str(directory)}
    daemon = DefaultDaemon(directory, arguments, {**places, **environment})
    assert hint in refused(daemon, 2)


def test_an_unknown_key(directory: Path) -> None:
    (directory / "kapla.toml").write_text("max_size = 5\n")
    daemon = Daemon(directory, ["--config", "kapla.toml"])
    assert "kapla.toml:1: unknown key 'max_size'; did you mean 'max-size'?" in refused(daemon, 2)
    assert not daemon.store.exists()


@pytest.mark.parametrize(
    ("listener", "hint"),
    [
        ("coap+unix:///no/such/directory/x.sock", "there is no directory"),
        ("coap+unix:///dev/null", "something else than a socket"),
        ("coap+tcp://192.0.2.1:0", "cannot listen on TCP 192.0.2.1:0"),
    ],
)
def test_a_listener_that_cannot_be(directory: Path, listener: str, hint: str) -> None:
    daemon = Daemon(directory, listen=[f"coap+unix://{directory}/first.sock", listener])
    assert hint in refused(daemon, 1)
    # Those that could be opened go too, and the store is closed.
    assert not (directory / "first.sock").exists()
    assert is_store(daemon.store)


def test_a_busy_port(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(directory, listen=[f"coap+tcp://127.0.0.1:{port}"])
        assert "Address already in use" in refused(daemon, 1)


def test_a_store_that_is_none(directory: Path) -> None:
    (directory / "blocks.sqlite").write_bytes(b"something else entirely" * 100)
    daemon = Daemon(directory)
    assert f"cannot use the store {daemon.store}: file is not a database" in refused(daemon, 1)
    assert not daemon.socket.exists()


def test_help_lists_the_exit_codes() -> None:
    done = subprocess.run(
        [program("kaplad"), "--help"], capture_output=True, text=True, check=True, timeout=GUARD_S
    )
    assert "0  stopped by SIGTERM or SIGINT" in done.stdout
    for option in ("--debug", "--config", "--store", "--listen"):
        assert option in done.stdout


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    with running_daemon() as daemon:
        with daemon.connect() as peer:
            for block in make_blocks(50).values():
                body = put_options(()) + b"\xff" + block
                peer.send(format_frame(Code.PUT, b"p", body))
            assert {response.code for response in peer.responses(50)} == {Code.CREATED}
        os.kill(daemon.pid, number)
        assert daemon.wait() == 0
        assert not daemon.socket.exists()
        assert is_store(daemon.store)
        assert "Traceback" not in daemon.log
        assert "(WARNING)" not in daemon.log


def test_an_idle_client_does_not_delay_the_stop() -> None:
    with running_daemon() as daemon, daemon.connect() as peer, daemon.connect(csm=False) as silent:
        assert peer.receive() is not None
        assert silent.receive() is not None
        assert daemon.stop() == 0
        assert "did not end in time" not in daemon.log
        assert [message.code for message in peer.rest()] == [Code.RELEASE]
        assert [message.code for message in silent.rest()] == [Code.RELEASE]


def test_clients_that_come_with_the_signal_do_not_delay_the_stop() -> None:
    with running_daemon() as daemon, ExitStack() as stack:
        # While it stands still, both wait for it together.
        os.kill(daemon.pid, signal.SIGSTOP)
        for _ in range(50):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(daemon.socket))
        os.kill(daemon.pid, signal.SIGTERM)
        os.kill(daemon.pid, signal.SIGCONT)
        assert daemon.wait() == 0
        assert "did not end in time" not in daemon.log
        assert "Traceback" not in daemon.log


def test_a_client_that_takes_no_answers_is_cut_off_in_the_end() -> None:
    """The only test that waits out the grace: five seconds."""
    [(reference, block)] = make_blocks(1, BlockSize.LARGE).items()
    with running_daemon() as daemon, daemon.connect() as peer:
        peer.send(format_frame(Code.PUT, b"p", put_options(()) + b"\xff" + block))
        assert peer.response().code == Code.CREATED
        # Few enough to be sent at once, and more answers than any buffer on the way takes.
        query = block_query(reference)
        peer.send(format_frame(Code.GET, b"g", get_options((), query, 32768)) * 120)
        assert peer.response().code == Code.CONTENT
        assert daemon.stop() == 0
        assert "1 connections did not end in time" in daemon.log
        assert is_store(daemon.store)


def test_the_impatient_may_send_more_signals() -> None:
    with running_daemon() as daemon:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(daemon.pid, number)
        assert daemon.wait() == 0
        assert is_store(daemon.store)
        assert "Traceback" not in daemon.log


def test_a_socket_that_somebody_removed() -> None:
    with running_daemon() as daemon:
        daemon.socket.unlink()
        assert daemon.stop() == 0


def test_another_daemon_that_took_the_place_keeps_it(directory: Path) -> None:
    with running_daemon() as first:
        first.socket.unlink()
        second = Daemon(directory, listen=[first.url])
        second.start()
        try:
            assert first.stop() == 0
            with first.connect() as peer:
                assert peer.receive() is not None
        finally:
            second.kill()


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
@pytest.mark.parametrize("count", [1, 64, 500])
def test_requests_in_flight_are_answered_or_fail(size: BlockSize, count: int) -> None:
    blocks = make_blocks(count, size)

    async def put_until_stopped(daemon: Daemon) -> list[bool]:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            await store.connect()
            puts = [asyncio.ensure_future(store.put(*item)) for item in blocks.items()]
            await puts[0]
            os.kill(daemon.pid, signal.SIGTERM)
            results = await asyncio.wait_for(asyncio.gather(*puts, return_exceptions=True), GUARD_S)
        assert all(result is None or isinstance(result, StoreUnavailable) for result in results)
        return [result is None for result in results]

    async def look(daemon: Daemon) -> list[bool]:
        async with RemoteStore(parse_store_url(daemon.url)) as store:
            results = await asyncio.gather(
                *[store.get(reference, size) for reference in blocks], return_exceptions=True
            )
        for block, result in zip(blocks.values(), results, strict=True):
            assert result == block or isinstance(result, BlockNotFound)
        return [isinstance(result, bytes) for result in results]

    with running_daemon() as daemon:
        kept = asyncio.run(put_until_stopped(daemon))
        assert daemon.wait() == 0
        assert is_store(daemon.store)
        daemon.start()
        found = asyncio.run(look(daemon))
    assert kept[0]
    # What was acknowledged is there; more than that may be.
    assert all(there for was_kept, there in zip(kept, found, strict=True) if was_kept)


def test_a_raw_peer_gets_every_answer_it_is_owed() -> None:
    """The daemon reads no more after the signal, but answers whatever it has read before."""
    blocks = make_blocks(100)
    with running_daemon() as daemon, daemon.connect() as peer:
        requests = [
            format_frame(Code.PUT, bytes([number]), put_options(()) + b"\xff" + block)
            for number, block in enumerate(blocks.values())
        ]
        peer.send(b"".join(requests) + format_message(Code.PING, b"end"))
        codes: list[int] = []
        # The ping stands behind all the requests: once it is answered, they have been read.
        while Code.PONG not in codes:
            message = peer.receive()
            assert message is not None
            codes.append(message.code)
        daemon.stop()
        codes += [message.code for message in peer.rest()]
        assert codes.count(Code.CREATED) == 100
        assert codes.count(Code.RELEASE) == 1
        assert is_store(daemon.store)

"""Settings of a real `kaplad`: checked, refused, and read anew while it serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.coap.frame import Code
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon

NO_GROUP = "no-such-group-of-kapla"


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """What stands in for systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = f"/tmp/kapla-notify-{os.getpid()}"
        listening.bind(path)
        listening.settimeout(GUARD_S)
        try:
            yield listening
        finally:
            os.unlink(path)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("settings") / "kapla.toml"
    found.write_text('max-size = "1 GiB"\n')
    return found


@pytest.fixture(scope="module")
def daemon(manager: socket.socket, file: Path) -> Iterator[Daemon]:
    environment = {"NOTIFY_SOCKET": manager.getsockname()}
    with running_daemon(None, "--config", str(file), env=environment) as running:
        assert manager.recv(4096) == b"READY=1"
        yield running


def hang_up(daemon: Daemon, manager: socket.socket) -> str:
    """What the log says of one SIGHUP."""
    before = len(daemon.log)
    os.kill(daemon.pid, signal.SIGHUP)
    first, second = manager.recv(4096), manager.recv(4096)
    reloading, clock = first.split(b"\n")
    assert reloading == b"RELOADING=1"
    assert int(clock.removeprefix(b"MONOTONIC_USEC=")) > 0
    assert second == b"READY=1"
    return daemon.log[before:]


def report(daemon: Daemon) -> dict[str, object]:
    with daemon.connect() as peer:
        answer = peer.request(Code.GET, options=[(11, b"kapla"), (11, b"stat")])
    found: dict[str, object] = json.loads(answer.payload)
    return found


# --- SIGHUP -----------------------------------------------------------------------------------


def test_what_can_change_holds_at_once(daemon: Daemon, manager: socket.socket, file: Path) -> None:
    file.write_text('max-size = "2 GB"\nwhen-full = "refuse"\nsynchronous = "full"\n')
    told = hang_up(daemon, manager)
    assert "(INFO): Settings: max-size is 2000000000 (1.863 GiB) now" in told
    assert "(INFO): Settings: when-full is refuse now" in told
    assert "(WARNING): Settings: synchronous takes effect at a restart" in told
    found = report(daemon)
    assert (found["max_size"], found["when_full"]) == (2 * 10**9, "refuse")
    file.write_text("")
    assert "max-size is none now" in hang_up(daemon, manager)
    assert report(daemon)["max_size"] is None
    assert "nothing has changed" in hang_up(daemon, manager)


def test_a_broken_file_changes_nothing(daemon: Daemon, manager: socket.socket, file: Path) -> None:
    before = report(daemon)["max_size"]
    file.write_text('max-size = "3 GB"\nmin-fre = 1\nwhen-full = ""\n')
    told = hang_up(daemon, manager)
    assert f"(ERROR): Settings are not read anew, and nothing changes: {file}:2: unknown" in told
    daemon.wait_for_log(f"{file}:3: ")
    told = daemon.log
    assert f"nothing changes: {file}:3: when-full: expected one of evict, refuse" in told
    assert report(daemon)["max_size"] == before


def test_a_smaller_store_refuses_what_has_no_room_and_a_larger_one_takes_it(
    daemon: Daemon, manager: socket.socket, file: Path
) -> None:
    path = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
    file.write_text('max-size = "1 MiB"\nwhen-full = "refuse"\n')
    hang_up(daemon, manager)
    with daemon.connect() as peer:
        codes = [
            peer.request(Code.PUT, options=path, payload=os.urandom(32768)).code for _ in range(32)
        ]
        assert codes[0] == 0x41
        assert codes[-1] != 0x41
        # Said once, however often it is so.
        assert daemon.log.count("The store has reached 9") == 1
        assert "% of its max-size of 1 MiB; then new blocks are refused" in daemon.log
        file.write_text("")
        hang_up(daemon, manager)
        # Of connections that are there already, too.
        again = peer.request(Code.PUT, options=path, payload=os.urandom(32768))
        assert again.code == 0x41


def test_fewer_connections(daemon: Daemon, manager: socket.socket, file: Path) -> None:
    with daemon.connect() as first, daemon.connect() as second:
        for peer in (first, second):
            assert peer.receive() is not None
        file.write_text("max-connections = 1\n")
        hang_up(daemon, manager)
        with daemon.connect() as third:
            assert third.rest()[-1].code == Code.ABORT
        file.write_text("")
        hang_up(daemon, manager)
        # Nobody was sent away.
        for peer in (first, second):
            assert peer.request(Code.GET, options=[(11, b"kapla"), (11, b"stat")]).code == 0x45


def test_the_log_changes_its_form(daemon: Daemon, manager: socket.socket, file: Path) -> None:
    file.write_text('log-format = "json"\n')
    lines = [json.loads(line) for line in hang_up(daemon, manager).splitlines()]
    assert lines[-1]["message"] == "Settings: log-format is json now"
    file.write_text("")
    assert "(INFO): Settings: log-format is text now" in hang_up(daemon, manager)


def test_a_hang_up_before_it_serves_is_heeded_when_it_does(tmp_path: Path) -> None:
    # A pipe: the daemon stands in the middle of its start until somebody writes.
    pipe = tmp_path / "kapla.toml"
    os.mkfifo(pipe)
    daemon = Daemon(tmp_path, ["--config", str(pipe)])
    daemon.spawn()
    try:
        with pipe.open("w") as first:
            for _ in range(3):
                os.kill(daemon.pid, signal.SIGHUP)
            first.write("max-connections = 8\n")
        daemon.wait_for_log("Listening on")
        pipe.write_text("max-connections = 7\n")
        daemon.wait_for_log("Settings: max-connections is 7 now")
        # Nobody writes any more, and the daemon ends nevertheless.
        os.kill(daemon.pid, signal.SIGHUP)
        assert daemon.stop() == 0
    finally:
        daemon.kill()


# --- checked and refused ----------------------------------------------------------------------


def kaplad(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("kaplad"), *arguments],
        env={**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_settings_are_checked_and_nothing_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "kapla.toml"
    file.write_text(
        f'store = "{tmp_path}/new/blocks"\nlisten = ["coap+unix://{tmp_path}/eris.sock"]\n'
    )
    done = kaplad(tmp_path, "--check-config", "--config", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file} is sound\n", "")
    file.write_text(f'listen = ["coap+unix://{tmp_path}/s?group={NO_GROUP}"]\nmaxsize = 1\n')
    done = kaplad(tmp_path, "--check-config", "--config", str(file), "--when-full", "no")
    assert (done.returncode, done.stdout) == (2, "")
    unknown, flag, group, summary = done.stderr.splitlines()
    assert unknown.startswith(f"{file}:2: unknown key 'maxsize'; did you mean 'max-size'?")
    assert flag.startswith("--when-full: expected one of evict, refuse")
    assert group.startswith(f"{file}:1: listen: there is no group '{NO_GROUP}'")
    assert summary == f"{file} is not sound: 3 errors"
    assert list(tmp_path.iterdir()) == [file]
    both = kaplad(tmp_path, "--check-config", "--check")
    assert both.returncode == 2


def test_a_group_that_there_is_not_is_a_wrong_configuration(tmp_path: Path) -> None:
    done = kaplad(tmp_path, "--listen", f"coap+unix://{tmp_path}/s?group={NO_GROUP}")
    assert done.returncode == 2
    assert f"kaplad: --listen: there is no group '{NO_GROUP}'" in done.stderr
    assert f"make it with: groupadd --system {NO_GROUP}" in done.stderr


def test_the_first_line_says_what_it_was_told(daemon: Daemon, file: Path) -> None:
    first = daemon.log.splitlines()[0]
    assert f"(INFO): kaplad 0.1.0: store {daemon.store}, max-size 1 GiB, settings from" in first
    assert first.endswith(f"{file}, --store, --listen")

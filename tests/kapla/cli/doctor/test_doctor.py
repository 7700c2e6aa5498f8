"""`kapla doctor` with real daemons, sockets and files: what is gathered, and how it is shown."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.catalogue.file import make_file
from kapla.cli.doctor.command import command
from kapla.cli.doctor.facts import DiskFacts
from kapla.cli.doctor.gathering import gather
from kapla.cli.doctor.looking import disk_of
from tests.integration.daemon import Daemon, running_daemon

KEY = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(
        None,
        *("--max-size", "500TiB", "--peer", f"coaps+tcp://127.0.0.1:9#{KEY}"),
        listen=["coap+tcp://127.0.0.1:0?get"],
        # It is known by its arguments.
        installed=True,
    ) as running:
        running.wait_for_log("cannot be reached")
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in os.environ:
        if name.startswith(("KAPLA_", "ERIS_", "GUIX_", "STATE_")):
            monkeypatch.delenv(name)
    # Neither systemd nor Guix of this machine has a part in it.
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit code, and the lines."""
    capsys.readouterr()
    code = command.main(list(arguments), standalone_mode=False)
    return code or 0, capsys.readouterr().out.splitlines()


def test_a_daemon_is_looked_at(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(capsys, "--json", "--store-url", daemon.url)
    found = [json.loads(line) for line in lines]
    assert code == 0
    told = {(one["check"], one["level"]) for one in found}
    assert {("store", "ok"), ("settings", "ok"), ("max-size", "warning")} <= told
    (peer,) = (one for one in found if one["check"] == "peers")
    assert KEY in peer["text"]
    assert peer["mend"]


def test_the_settings_are_those_of_the_running_daemon(daemon: Daemon) -> None:
    facts = gather(daemon.url)
    assert facts.blind == ()
    assert facts.settings.store == str(daemon.store)
    assert facts.settings.max_size == 500 * 2**40
    assert facts.stores[0].pid == daemon.pid
    assert facts.stores[0].open_files
    assert facts.disk is not None
    assert facts.disk.store_bytes
    assert facts.disk.kind
    assert (facts.stores[0].report or {})["version"] == facts.version


def test_when_all_is_well_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # That of the tests may be in memory.
    disk = DiskFacts("/srv/blocks.sqlite", "ext4", 2**40, 2**39)
    monkeypatch.setattr("kapla.cli.doctor.gathering.disk_of", lambda _: disk)
    code, lines = doctor(capsys, "--store-url", "none")
    assert code == 0
    (line,) = lines
    assert line.startswith("All is well")
    _, lines = doctor(capsys, "--store-url", "none", "--all")
    assert len(lines) > 1


def test_a_stale_socket(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        monkeypatch.chdir(home)
        left.bind("s")
    code, lines = doctor(capsys, "--store-url", f"coap+unix://{home}/s")
    assert code == 1
    assert "left from a daemon that has ended" in lines[0]
    assert lines[1].strip().endswith("systemctl start kaplad")


def test_no_socket_and_no_port(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = f"coap+unix://{home}/none coap+tcp://127.0.0.1:9"
    code, lines = doctor(capsys, "--store-url", stores)
    assert code == 1
    assert "there is no socket" in lines[0]
    assert "TCP 127.0.0.1:9 cannot be asked" in lines[2]


def test_what_the_daemon_would_not_start_with(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "settings.toml"
    file.write_text('stroe = "x"\n')
    monkeypatch.setenv("KAPLA_CONFIG", str(file))
    code, lines = doctor(capsys, "--store-url", "none")
    assert code == 1
    assert "unknown key 'stroe'" in lines[0]


def test_a_wrong_url_is_said_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(capsys, "--store-url", "gopher://secret/path")
    assert code == 1
    assert "store URL" in lines[0]
    assert "secret" not in "".join(lines)


def test_files_for_others_are_told_of_and_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = home / "data" / "kapla-client" / "catalogue.sqlite"
    make_file(catalogue)
    assert doctor(capsys, "--store-url", "none")[0] == 0
    catalogue.chmod(0o644)
    code, lines = doctor(capsys, "--store-url", "none")
    assert code == 1
    assert "others may read" in lines[0]
    assert lines[1].endswith(f"chmod 600 {catalogue}")
    assert catalogue.stat().st_mode & 0o777 == 0o644
    catalogue.chmod(0o600)
    catalogue.write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert "damaged" in doctor(capsys, "--store-url", "none")[1][0]


def test_units_are_asked_of_systemd(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl = home / "systemctl"
    systemctl.write_text(
        '#!/bin/sh\ncase "$*" in *--user*) exit 1;; *kaplad.service*)'
        " printf 'LoadState=loaded\\nActiveState=failed\\nResult=exit-code\\n';; esac\n"
    )
    systemctl.chmod(0o755)
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system" or isdir(path))
    code, lines = doctor(capsys, "--store-url", "none")
    assert code == 1
    assert "the unit kaplad.service has failed (exit-code)" in lines[0]


def test_the_disk_of_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    disk = disk_of(str(tmp_path / "not" / "yet" / "blocks.sqlite"))
    assert disk is not None
    assert disk.total >= disk.free > 0
    assert disk.store_bytes is None


def test_what_goes_wrong_in_looking_keeps_nobody_from_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("kapla.cli.doctor.gathering.disk_of", fail)
    code, lines = doctor(capsys, "--store-url", "none")
    assert code == 0
    assert "this could not be looked at: RuntimeError: odd" in lines[0]

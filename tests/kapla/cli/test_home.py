"""`kapla` alone: what it shows where there is nothing yet, and where there is something."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kapla.catalogue.catalogue import Catalogue
from kapla.catalogue.entries import Entry
from kapla.cli.home import show_home
from tests.integration.daemon import program


@dataclass(frozen=True)
class Home:
    """Where a user is at home, and what is shown to them."""

    path: Path
    capsys: pytest.CaptureFixture[str]

    def shown(self) -> list[str]:
        show_home()
        lines = self.capsys.readouterr().out.splitlines()
        assert all(len(line) <= 80 for line in lines if str(self.path) not in line)
        return lines

    def note(self, name: str, kind: str = "tree") -> None:
        entry = Entry("urn:eris:x", name.encode(), "coap+tcp://attic", kind, 5, name=name)
        with Catalogue.open_or_make(self.path / "kapla-client" / "catalogue.sqlite") as catalogue:
            catalogue.note(entry)


@pytest.fixture
def home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Home:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("ERIS_STORE_URL", f"coap+unix://{tmp_path}/s")
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, capsys)


def test_it_ends_well_and_makes_nothing(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "ERIS_STORE_URL": "none"}
    done = subprocess.run(
        [program("kapla")], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert "Kapla keeps files" in done.stdout
    assert "there is no store" in done.stdout
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_nobody_is_there_and_nothing_is_stored(home: Home) -> None:
    shown = "\n".join(home.shown())
    assert "No daemon is running" in shown
    assert "Nothing is in your catalogue yet" in shown
    assert shown.count("kapla encode --name") == 2
    assert "kapla --help" in shown


def test_who_is_there_and_what_was_stored_last(home: Home) -> None:
    for number in range(7):
        home.note(f"n{number}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind("s")
        listening.listen()
        shown = "\n".join(home.shown())
    assert "Your store: the daemon at" in shown
    assert "@n6" in shown
    assert "@n2" in shown
    assert "@n1" not in shown
    assert "  kapla ls @n6\n  kapla decode @n6 copy" in shown


def test_odd_names_do_not_command_the_terminal_or_the_shell(home: Home) -> None:
    home.note("$(reboot) and a very long name that goes on and on", kind="file")
    shown = "\n".join(home.shown())
    assert "kapla decode @NAME copy" in shown
    assert "kapla ls @NAME\n" not in shown.replace("  kapla ls @NAME  ", "")


def test_other_stores(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERIS_STORE_URL", "coap+tcp://attic/secret coap+tcp://barn")
    shown = "\n".join(home.shown())
    assert "Your store: TCP attic:5683, and 1 more behind it" in shown
    assert "secret" not in shown
    monkeypatch.setenv("ERIS_STORE_URL", "gopher://x")
    assert "$ERIS_STORE_URL cannot be used" in "\n".join(home.shown())


def test_a_daemon_whose_queue_is_full_is_there(home: Home) -> None:
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(home.path / "s"))
        listening.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(home.path / "s"))
        shown = home.shown()
    assert f"The daemon does not answer: {home.path}/s." in shown
    assert not any("starts one" in line for line in shown)

"""Leaving things out of a tree: `kapla encode --exclude` and `--exclude-from`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eris_fs.trees import File, Node, lay_out, read_back
from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon

WANTED: Node = {"docs": {"a": File(b"a"), "o": {"keep.o": File(b"k")}}, "b": File(b"b")}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory as they are, with a socket, a pipe, and what nobody may read."""
    path = tmp_path / "home"
    lay_out({**WANTED, ".cache": {"x": {"y": File(b"")}}, "x.o": File(b"")}, path)  # type: ignore[dict-item]
    (path / "docs" / "x.o").write_bytes(b"")
    os.mkfifo(path / "docs" / "pipe")
    monkeypatch.chdir(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("S.agent")
    return path


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    return Kapla(tmp_path, daemon.url)


@pytest.mark.parametrize("how", [[], ["--packed", "--level", "1"]], ids=["tree", "packed"])
def test_a_home_directory(kapla: Kapla, home: Path, tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "patterns").write_text("# sockets\nS.*\n\n/.cache/\n*.o\n!keep.o\n")
    left_out = ["--exclude-from", "patterns", "--exclude", "pipe"]
    urn = kapla.out("encode", *how, *left_out, "home")
    assert kapla.out("encode", *how, *left_out, "--no-store", f"{home}/") == urn
    kapla("decode", urn, "out")
    assert read_back(tmp_path / "out") == WANTED

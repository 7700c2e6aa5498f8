"""A home directory with the daemon's store in it, sparse files, several paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands import Kapla
from tests.integration.daemon import Daemon, running_daemon


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    home = tmp_path / "home"
    home.mkdir()
    variables = {"XDG_CACHE_HOME": str(home / ".cache"), "KAPLA_STORE": str(daemon.store)}
    return Kapla(home, daemon.url, env=variables)


def test_nothing_of_kapla_goes_into_a_home(kapla: Kapla, daemon: Daemon) -> None:
    (kapla.home / "notes").write_bytes(b"notes")
    os.link(daemon.store, kapla.home / "another name")
    first = kapla("encode", kapla.home)
    second = kapla("encode", kapla.home)
    listing = kapla.out("ls", second.stdout.decode().strip())
    assert "notes" in listing and "sqlite" not in listing and "another" not in listing
    assert "the store" in first.stderr.decode() and "the encode cache" in first.stderr.decode()
    assert "the catalogue" in second.stderr.decode()
    assert "the store of kapla itself" in kapla.error("encode", daemon.store, code=2)


def test_what_is_not_complete_is_noted(kapla: Kapla, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    done = kapla("encode", "--skip-unreadable", tree, code=9)
    urn = done.stdout.decode().strip()
    assert urn.startswith("urn:eris:") and b"pipe: it is a named pipe" in done.stderr

    def kind() -> str:
        entry = json.loads(kapla.out("list", "--json"))
        assert isinstance(entry, dict)
        return str(entry["kind"])

    assert kind() == "partial"
    (tree / "pipe").unlink()
    assert kapla.out("encode", tree) == urn
    assert kind() == "tree"


def test_a_sparse_file_stays_one(kapla: Kapla, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(256 << 20)
        file.seek(100 << 20)
        file.write(b"data" * 5000)
    if source.stat().st_blocks > 1000:
        pytest.skip("this file system keeps no holes")
    kapla("decode", kapla.out("encode", source), "out")
    found = (kapla.home / "out").stat()
    assert found.st_size == 256 << 20 and found.st_blocks < 1000
    with (kapla.home / "out").open("rb") as file:
        file.seek((100 << 20) - 5)
        assert file.read(20_010) == bytes(5) + b"data" * 5000 + bytes(5)


def test_a_tree_of_several_paths_is_mended_from_them(kapla: Kapla, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(name.encode() * 5000)
    paths = [tmp_path / "one", tmp_path / "two"]
    urn = kapla.out("encode", *paths)
    origin = [argument for path in paths for argument in ("--from", path)]
    said = kapla.out("verify", urn, "--repair", *origin)
    assert said.endswith("0 repaired")
    kapla("verify", urn, "--repair", *origin[:2], code=4)

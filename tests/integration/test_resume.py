"""An upload that broke off goes on where it broke, also into another run of the daemon."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands import Kapla, blocks_there, report, stalling_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon

MIB = 1024 * 1024
BLOCK = 32 * 1024


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path) as running:
        yield running


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    home = tmp_path / "home"
    home.mkdir()
    return Kapla(home, daemon.url)


def puts(kapla: Kapla) -> int:
    """How many blocks were sent since the daemon was started."""
    count = report(kapla)["requests"]["put"]
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("what", ["file", "stdin", "tree"])
def test_an_encode_that_broke_off_goes_on_where_it_broke(
    kapla: Kapla, daemon: Daemon, tmp_path: Path, what: str
) -> None:
    content = random.Random(what).randbytes(16 * MIB)
    root = kapla.home / "root"
    root.mkdir()
    path = root / "large"
    path.write_bytes(content)
    given = {"file": str(path), "stdin": "-", "tree": str(root)}[what]
    stdin = content if what == "stdin" else b""
    # An answer to a PUT has six bytes: so it breaks off after some hundred blocks.
    with stalling_store(tmp_path / "s", daemon.socket, 600) as stalling, path.open("rb") as file:
        broken = subprocess.Popen(
            kapla.command("encode", "--store-url", stalling.url, given),
            env=kapla.environment(),
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert stalling.stalled.wait(GUARD_S)
        broken.kill()
        broken.wait()
    daemon.restart()
    there = blocks_there(kapla)
    assert 50 < there < len(content) // BLOCK
    urn = kapla.out("encode", given, stdin=stdin)
    whole = blocks_there(kapla)
    # What was lacking, and what one question is about.
    assert puts(kapla) <= whole - there + 40
    if what != "file":
        return
    assert kapla("decode", urn, "-").stdout == content
    before = puts(kapla)
    assert kapla.out("encode", given, stdin=stdin) == urn
    assert puts(kapla) - before <= 3
    before = puts(kapla)
    assert kapla.out("encode", "--no-cache", given, stdin=stdin) == urn
    assert puts(kapla) - before >= whole


def test_what_the_store_had_belongs_to_the_new_pin(kapla: Kapla) -> None:
    path = kapla.home / "file"
    content = random.Random(1).randbytes(4 * MIB)
    path.write_bytes(content)
    kapla("encode", "--no-pin", path)
    kapla("encode", path)
    pins = map(json.loads, kapla.out("pins", "--json").splitlines())
    (pin,) = [one for one in pins if one["name"] != "before-pins"]
    assert (pin["blocks"], pin["missing"]) == (len(content) // BLOCK + 2, 0)

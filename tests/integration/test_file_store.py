"""Commands on the file of a store, with a daemon on it and without."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris import ReadCapability, read_content
from kapla.file_store import FileStore
from kapla.urls import parse_store_url
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.users import as_a_user


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    (path / "tree").mkdir(parents=True)
    (path / "tree" / "word").write_bytes(b"a word\n")
    (path / "tree" / "large").write_bytes(os.urandom(1_000_000))
    return path


def test_a_file_and_its_daemon(daemon: Daemon, home: Path) -> None:
    served = Kapla(home, daemon.url)
    direct = Kapla(home, f"file://{daemon.store}")
    urn = served.out("encode", "tree")

    # Read while the daemon has it.
    assert direct("cat", urn, "word").stdout == b"a word\n"
    assert len(direct.out("pins", "--json").splitlines()) == 1

    # Written, it is not: the daemon is named, and where it is.
    reason = direct.error("encode", "--timeout", "0.2", "tree/word", code=3)
    assert f"kaplad (pid {daemon.pid}) at the socket {daemon.socket}" in reason
    both = Kapla(home, f"file://{daemon.store} {daemon.url}")
    assert both.out("encode", "--timeout", "0.2", "tree/word").startswith("urn:")

    # What is stored without it is kept by the daemon that comes later.
    daemon.stop()
    direct("encode", "tree/large")
    daemon.start()
    assert len(served.out("pins", "--json").splitlines()) == 3


async def _content(path: Path, urn: str) -> bytes:
    async with FileStore(parse_store_url(f"file://{path}?get")) as store:
        return await read_content(store, ReadCapability.from_urn(urn), 0, 1_000_001)


def test_out_of_a_file_and_into_it(home: Path) -> None:
    store = home / "new" / "blocks.sqlite"
    kapla = Kapla(home, f"file://{store}")
    urn = kapla.out("encode", "tree")
    with kapla.running("cat", urn, "large") as cat:
        assert cat.stdout is not None
        done = subprocess.run(
            kapla.command("encode", "-"),
            env=kapla.environment(),
            stdin=cat.stdout,
            capture_output=True,
            cwd=home,
            check=True,
            timeout=GUARD_S,
        )
        assert cat.wait(GUARD_S) == 0
    content = asyncio.run(_content(store, done.stdout.decode().strip()))
    assert content == (home / "tree" / "large").read_bytes()
    # Nothing but the lock is left beside it.
    assert {one.name for one in store.parent.iterdir()} == {store.name, store.name + ".lock"}

    # Who may not write there is told what can be done.
    lock = store.with_name(store.name + ".lock")
    for path, mode in ((lock, 0o444), (store, 0o444), (store.parent, 0o555)):
        path.chmod(mode)
    somebody = Kapla(home, kapla.url, as_a_user())
    try:
        assert "read a copy of the file" in somebody.error("verify", urn, code=3)
        assert "you may only read it" in somebody.error("encode", "tree/word", code=6)
        assert len(list(store.parent.iterdir())) == 2
    finally:
        store.parent.chmod(0o755)

"""One daemon for all tests of the doors, and a tree in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.doors.sync import Store, open_store
from tests.integration.daemon import Daemon, running_daemon

__all__ = ["LARGE", "TREE", "connections"]

LARGE = bytes(range(251)) * 8000
"""Two MB, none of which is like what is near it."""

TREE = {
    "guide.txt": b"the first line\nthe second\n",
    "docs/large.bin": LARGE,
    "docs/deep/note.txt": b"deep down\n",
    "docs/empty": b"",
}


def connections(store: Store) -> int:
    """How many connections the daemon has, that of this store among them."""
    return int(store._call(lambda session: session.store.stat())["connections"]["now"])


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `TREE` and some symlinks in it."""
    root = tmp_path_factory.mktemp("doors") / "tree"
    for name, content in TREE.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (root / "docs/deep/note.txt").chmod(0o755)
    (root / "latest").symlink_to("docs/deep/note.txt")
    (root / "docs/up").symlink_to("../guide.txt")
    (root / "there").symlink_to("docs")
    (root / "out").symlink_to("/etc/passwd")
    (root / "above").symlink_to("../..")
    (root / "circle").symlink_to("circle")
    (root / "nowhere").symlink_to("gone")
    return root


@pytest.fixture
def store(daemon: Daemon) -> Iterator[Store]:
    with open_store(daemon.url) as opened:
        yield opened


@pytest.fixture(scope="session", params=["plain", "packed"])
def urn(request: pytest.FixtureRequest, daemon: Daemon, directory: Path) -> str:
    """The tree in the daemon, of either kind."""
    with open_store(daemon.url) as opened:
        return opened.put_tree(directory, packed=request.param == "packed").to_urn()

"""The directory that holds OUT is not ours: whatever a command does, it stays as it was."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.integration.commands import Kapla, stalling_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until
from tests.integration.users import as_a_user

UNKNOWN = "urn:eris:BIA" + "A" * 103
NEW: dict[str, Node] = {str(number): File(bytes([number]) * 20_000) for number in range(100)}
OLD: dict[str, Node | None] = {
    "nothing": None,
    "file": File(b"old"),
    "link": Link("/nowhere"),
    "tree": {"a": {"b": {"f": File(b"old")}}, "f": File(b"old")},
}
# Of the directory OUT and those in it, as their owner may have them.
MODES = {"open": 0o755, "unreadable": 0o300, "closed": 0}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Like /tmp: everybody may write there, and nobody takes what is another's."""
    path = tmp_path / "shared"
    lay_out({"other's": {"f": File(b"kept")}, "f": File(b"kept")}, path)
    os.chmod(path / "other's", 0o750)
    os.chmod(path, 0o1777)
    os.utime(path, (2**31, 1))  # a future time of reading is not changed by reading
    return path


@pytest.fixture
def kapla(daemon: Daemon, tmp_path: Path) -> Kapla:
    return Kapla(tmp_path, daemon.url, as_a_user())


@pytest.fixture(scope="module")
def urns(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("made")
    lay_out(NEW, home / "tree")
    kapla = Kapla(home, daemon.url)
    return {
        "tree": kapla.out("encode", "tree"),
        "packed": kapla.out("encode", "--packed", "tree"),
        "file": kapla.out("encode", "-", stdin=Random(1).randbytes(2_000_000)),
    }


def state(directory: Path) -> tuple[object, ...]:
    """Mode, owner and time of reading; and the entries but OUT, with their modes and times."""
    own = directory.stat()
    others = {
        name: (found.st_mode, found.st_uid, found.st_gid, found.st_ctime_ns)
        for name in os.listdir(directory)
        if name != "out"
        for found in [(directory / name).lstat()]
    }
    return own.st_mode, own.st_uid, own.st_gid, own.st_atime_ns, others


def make_old(old: Node | None, mode: int, out: Path) -> None:
    if old is None:
        return
    lay_out(old, out)
    if isinstance(old, dict):
        for path in (out / "a" / "b", out / "a", out):
            os.chmod(path, mode)


def forced(old: str) -> list[str]:
    return [] if old == "nothing" else ["--force"]


@pytest.mark.parametrize(
    ("old", "mode"),
    [
        *((name, "open") for name in OLD),
        *(("tree", mode) for mode in MODES if mode != "open"),
    ],
)
def test_after_success(
    kapla: Kapla, urns: dict[str, str], shared: Path, old: str, mode: str
) -> None:
    make_old(OLD[old], MODES[mode], shared / "out")
    before = state(shared)
    kapla("decode", *forced(old), urns["packed" if old == "nothing" else "tree"], shared / "out")
    assert state(shared) == before
    assert len(os.listdir(shared / "out")) == len(NEW)


@pytest.mark.parametrize(
    ("old", "mode", "failure"),
    [
        ("nothing", "open", "missing"),
        ("file", "open", "too large"),
        ("tree", "unreadable", "too large"),
    ],
)
def test_after_a_failure(
    kapla: Kapla, urns: dict[str, str], shared: Path, old: str, mode: str, failure: str
) -> None:
    make_old(OLD[old], MODES[mode], shared / "out")
    before = state(shared), os.path.lexists(shared / "out")
    if failure == "missing":
        kapla("decode", *forced(old), UNKNOWN, shared / "out", code=4)
    else:
        # Shows when something has been written already.
        size = ["--max-size", "1500000"]
        kapla("decode", *forced(old), *size, urns["tree"], shared / "out", code=7)
    assert (state(shared), os.path.lexists(shared / "out")) == before


@pytest.mark.parametrize(
    ("kind", "old", "number"),
    [("tree", "tree", signal.SIGINT), ("file", "file", signal.SIGTERM)],
    ids=["tree-SIGINT", "file-SIGTERM"],
)
def test_after_a_signal(
    kapla: Kapla,
    daemon: Daemon,
    urns: dict[str, str],
    shared: Path,
    kind: str,
    old: str,
    number: signal.Signals,
) -> None:
    make_old(OLD[old], MODES["unreadable"], shared / "out")
    before = state(shared)
    names = len(os.listdir(shared))
    with (
        tempfile.TemporaryDirectory(prefix="kapla-") as short,
        stalling_store(Path(short, "s"), daemon.socket, 1 << 20) as store,
        kapla.running(
            "decode", "--force", "--store-url", store.url, urns[kind], shared / "out"
        ) as process,
    ):
        assert store.stalled.wait(GUARD_S)
        wait_until(lambda: len(os.listdir(shared)) > names, "a beginning")
        kapla.interrupt(process, number)
    assert state(shared) == before

"""`kapla verify --repair` refills a store that has lost blocks, or has bad ones."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon
from tests.integration.here import User


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    with running_daemon(first) as one, running_daemon(second) as other:
        yield one, other


def make_content(directory: Path, kind: str) -> Path:
    path = directory / "content"
    if kind == "file":
        path.write_bytes(bytes(range(256)) * 1000)
        return path
    (path / "below").mkdir(parents=True)
    for number in range(40):
        (path / "below" / f"{number}.txt").write_text(f"line {number}\n" * (50 * number + 1))
    return path


def harm(daemon: Daemon) -> None:
    """Take out blocks and spoil others, beside the daemon."""
    with closing(sqlite3.connect(daemon.store)) as connection, connection:
        connection.execute("DELETE FROM blocks WHERE id % 3 = 0")
        connection.execute("UPDATE blocks SET block = zeroblob(length(block)) WHERE id % 3 = 1")


def codes(kapla: Kapla, urn: str) -> int:
    """How verify ends."""
    return run(kapla, urn).returncode


def summary(kapla: Kapla, urn: str, *how: str) -> bytes:
    """What verify says at the end, in JSON."""
    return run(kapla, urn, "--json", *how).stdout.splitlines()[-1]


def run(kapla: Kapla, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        kapla.command("verify", *arguments),
        env=kapla.environment(),
        capture_output=True,
        check=False,
        timeout=GUARD_S,
    )


PACKED = ["--packed", "--level", "3"]


@pytest.mark.parametrize(
    ("origin", "kind", "how"),
    [
        ("store", "tree", []),
        ("store", "tree", PACKED),
        ("path", "file", []),
        ("path", "tree", []),
        ("path", "tree", PACKED),
    ],
)
def test_what_is_missing_or_bad_is_there_again(
    daemons: tuple[Daemon, Daemon], tmp_path: Path, kind: str, how: list[str], origin: str
) -> None:
    one, other = daemons
    here = User(tmp_path, one.url)
    kapla = here.as_program
    source = make_content(tmp_path, kind)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes([len(how), len(kind), *range(30)]))
    how = [*how, "--convergence-secret", str(secret)]
    urn = here.out("encode", *how, "--no-cache", source)
    again = User(tmp_path, other.url)
    assert again.out("encode", *how, "--no-cache", source) == urn
    harm(one)
    assert codes(kapla, urn) in (4, 5)
    where = [other.url] if origin == "store" else [str(source), *how]
    repaired = kapla.out("verify", urn, "--repair", "--from", *where)
    assert ", 0 missing, 0 bad, " in repaired
    assert ", 0 repaired" not in repaired
    assert codes(kapla, urn) == 0


def test_another_content_or_another_way_is_told_and_stores_nothing(
    daemons: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    kapla = Kapla(tmp_path, daemons[0].url)
    source = make_content(tmp_path, "tree")
    urn = kapla.out("encode", "--packed", source)
    before = kapla("stat", "--json").stdout
    for how in ([], ["--packed", "--level", "2"]):
        refused = kapla.error("verify", urn, "--repair", "--from", source, *how, code=4)
        assert "has another URN" in refused
    after = kapla("stat", "--json").stdout
    assert before.partition(b"database")[0] == after.partition(b"database")[0]


def test_what_the_other_store_lacks_too_stays_missing(
    daemons: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    one, other = daemons
    source = tmp_path / "content"
    source.write_bytes(b"only here" * 9000)
    kapla = Kapla(tmp_path, one.url)
    urn = kapla.out("encode", source)
    harm(one)
    found = json.loads(summary(kapla, urn, "--repair", "--from", other.url))
    assert found["missing"] + found["bad"] > 0
    assert found["repaired"] == 0

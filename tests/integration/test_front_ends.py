"""Several daemons over one database, as people use them: a group, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kapla.migrating import migrate
from kapla.store_place import parse_place
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon
from tests.kapla.storage.databases import batched
from tests.kapla.test_migrating import ALL, LACKING, at, fill, is_whole

postgres = pytest.importorskip("tests.postgres", reason="there is no driver of PostgreSQL")
postgres_server, postgres_url = postgres.postgres_server, postgres.postgres_url

MIB = 1024 * 1024
PART = 3 * MIB
CONTENT = random.Random(19).randbytes(3 * PART)
STOPS = {"SIGTERM": Daemon.stop, "SIGKILL": Daemon.kill}
SECRET = "s3cret"


def with_password(url: str) -> str:
    """The same, with a password, which this server does not ask for."""
    return url.replace("postgres@", f"postgres:{SECRET}@")


@pytest.fixture
def daemons(tmp_path: Path, postgres_url: str) -> Iterator[list[Daemon]]:
    """Two of them; neither ever tells the password."""
    store = ("--debug", "--store", with_password(postgres_url))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        running_daemon(tmp_path / "one", *store) as one,
        running_daemon(tmp_path / "two", *store) as two,
    ):
        yield [one, two]
    assert SECRET not in one.log + two.log


@pytest.fixture
def kapla(daemons: list[Daemon], tmp_path: Path) -> Kapla:
    home = tmp_path / "home"
    home.mkdir()
    return Kapla(home, "|".join(daemon.url for daemon in daemons))


def begin(kapla: Kapla, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        kapla.command(*arguments),
        env=kapla.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def encoded(kapla: Kapla, between: list[Callable[[], object]]) -> str:
    """Encode the content, and do something else after each of its parts; returns its URN."""
    with begin(kapla, "encode", "--no-cache", "--no-catalogue", "-") as encoding:
        assert encoding.stdin is not None
        for number, what in enumerate(between):
            # All but what is in the pipe is read when it is written.
            encoding.stdin.write(CONTENT[number * PART : (number + 1) * PART])
            encoding.stdin.flush()
            what()
        out, err = encoding.communicate(CONTENT[len(between) * PART :], GUARD_S)
    assert encoding.returncode == 0, err
    return out.decode().strip()


def is_pinned_whole(kapla: Kapla, urn: str) -> None:
    kapla("verify", urn)
    (pin,) = map(json.loads, kapla.out("pins", "--json").splitlines())
    assert (pin["missing"], pin["bytes"] >= len(CONTENT)) == (0, True)


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_an_encode_goes_on_through_a_rolling_restart(
    kapla: Kapla, daemons: list[Daemon], stop: Callable[[Daemon], int]
) -> None:
    def again(daemon: Daemon) -> Callable[[], object]:
        def both() -> None:
            stop(daemon)
            daemon.start()

        return both

    urn = encoded(kapla, [again(daemon) for daemon in daemons])
    is_pinned_whole(kapla, urn)
    assert kapla("decode", urn, "-").stdout == CONTENT


def test_a_decode_goes_on_where_one_is_killed(kapla: Kapla, daemons: list[Daemon]) -> None:
    urn = encoded(kapla, [])
    with begin(kapla, "decode", urn, "-") as decoding:
        assert decoding.stdout is not None
        found = os.read(decoding.stdout.fileno(), 1000)
        daemons[0].kill()
        rest, err = decoding.communicate(timeout=GUARD_S)
    assert decoding.returncode == 0, err
    assert found + rest == CONTENT


def test_an_encode_goes_on_where_the_database_was_killed(
    kapla: Kapla, postgres_server: Any
) -> None:
    def again() -> None:
        postgres_server.kill()
        postgres_server.start()

    is_pinned_whole(kapla, encoded(kapla, [again]))


def test_what_is_put_at_one_is_at_the_other(kapla: Kapla, daemons: list[Daemon]) -> None:
    one, two = (Kapla(kapla.home, daemon.url) for daemon in daemons)
    urn = one.out("encode", "--no-catalogue", "-", stdin=CONTENT[:MIB]).strip()
    two("verify", urn)
    assert one.out("pins", "--json") == two.out("pins", "--json")
    report = json.loads(two.out("stat", "--json"))
    assert report["store"] == "postgresql"
    assert "in PostgreSQL" in two.out("stat")
    refused = two("backup", kapla.home / "copy", code=6)
    assert b"pg_dump" in refused.stderr


def kaplad(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("kaplad"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert SECRET not in done.stdout + done.stderr
    return done


def test_a_store_is_moved_into_a_database_and_back(tmp_path: Path, postgres_url: str) -> None:
    async def main() -> None:
        async with batched(at(tmp_path, "source")) as storage:
            await fill(storage)
        database = parse_place(with_password(postgres_url))
        for copied in (len(ALL), 0):
            done = await migrate(tmp_path / "source", database, lambda *_: None)
            assert (done.blocks, done.missing) == (copied, len(LACKING))
            assert (done.pins, done.pins_there) == ((3, 0) if copied else (0, 3))
        done = await migrate(database, tmp_path / "back", lambda *_: None)
        assert (done.blocks, done.pins) == (len(ALL), 3)
        await is_whole(tmp_path, "source", "back")

    asyncio.run(main())
    looked = kaplad("--check", "--store", with_password(postgres_url))
    assert looked.returncode == 0, looked.stderr
    assert f"{len(ALL):,} blocks in " in looked.stdout
    assert looked.stdout.endswith(": the store is sound\n")


def test_an_empty_database_is_looked_at_and_stays_empty(
    tmp_path: Path, postgres_url: str, postgres_server: Any
) -> None:
    # As where two URLs were mistaken for each other.
    looked = kaplad("--check", "--store", with_password(postgres_url))
    assert (looked.returncode, looked.stdout) == (1, "")
    assert looked.stderr.endswith(": there is no store in this database\n")
    done = Kapla(tmp_path, "none")(
        "store", "migrate", with_password(postgres_url), tmp_path / "new", code=3
    )
    assert b"there is no store in this database" in done.stderr
    assert not (tmp_path / "new").exists()
    assert not postgres_server.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", postgres_url
    )


def test_a_database_that_is_not_there(postgres_url: str, tmp_path: Path) -> None:
    none = with_password(postgres_url).replace("/test_", "/no_such_")
    for option in ("--check", "--listen=coap+unix:///" + str(tmp_path / "s")[1:]):
        done = kaplad("--store", none, option)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("kaplad: cannot use the store postgresql://")

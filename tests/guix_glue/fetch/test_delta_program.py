"""Deltas with the real program beside a real `kaplad`, as the Guix daemon would run it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eris.transfer import put_content
from guix_glue.formats.store_path import format_hash
from kapla.client import default_store_urls, open_store
from tests.eris_fs.delta.raw import make
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import (
    assert_canonical,
    configuration,
    program_environment,
    start_program,
)
from tests.guix_glue.fetch.upgrades import NEW, OLD, Upgrade, make_upgrade
from tests.integration.commands import stalling_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    return make_upgrade(tmp_path_factory.mktemp("upgrade"))


@pytest.fixture(scope="module")
def daemon(upgrade: Upgrade) -> Iterator[Daemon]:
    """One that has the delta, and nothing else."""

    async def put(url: str) -> None:
        async with open_store(default_store_urls(url)) as store:
            await put_content(store, make(OLD, NEW).to_bytes())

    with running_daemon() as one:
        asyncio.run(put(one.url))
        yield one


@pytest.fixture(scope="module")
def server(upgrade: Upgrade) -> Iterator[FakeServer]:
    with running_server() as one:
        upgrade.publish(one, [upgrade.line], urn=upgrade.packed)
        yield one


@pytest.fixture
def environment(upgrade: Upgrade, server: FakeServer) -> Iterator[dict[str, str]]:
    options = f"print-extended-build-trace=1\nsubstitute-urls={server.url}\ndeduplicate=yes"
    with configuration() as directory:
        yield {
            **program_environment(directory, options),
            "NIX_STORE_DIR": str(upgrade.store_dir),
            "GUIX_STATE_DIRECTORY": str(directory / "state"),
        }


def command_for(upgrade: Upgrade, destination: Path) -> bytes:
    return f"substitute {upgrade.new.item.path} {destination}\n".encode()


def arguments_for(url: str) -> list[str]:
    return ["--substitute", "--eris-store-url", url]


def test_several_at_once(
    upgrade: Upgrade, daemon: Daemon, environment: dict[str, str], tmp_path: Path
) -> None:
    item = upgrade.new.item
    expected = f"success {format_hash(item.nar_hash)} {item.nar_size}\n".encode()
    with ExitStack() as stack:
        started = []
        for name in ("one", "two"):
            program = stack.enter_context(start_program(arguments_for(daemon.url), environment))
            program.send(command_for(upgrade, tmp_path / name))
            started.append((name, program))
        for name, program in started:
            done = program.finish()
            assert (done.replies, done.code) == (expected, 0), done
            assert f"against {upgrade.old.name}" in done.messages
            assert upgrade.delta[:30] not in done.messages
            assert_canonical(tmp_path / name, item.nar_hash, item.nar_size)


def test_sigkill_leaves_nothing_but_what_is_at_the_destination(
    upgrade: Upgrade, daemon: Daemon, environment: dict[str, str], tmp_path: Path
) -> None:
    config = Path(environment["GUIX_CONFIGURATION_DIRECTORY"])
    before = sorted(config.rglob("*"))
    with (
        stalling_store(tmp_path / "p.sock", daemon.socket, 60_000) as between,
        start_program(arguments_for(between.url), environment) as running,
    ):
        running.send(command_for(upgrade, upgrade.store_dir / "item"))
        assert between.stalled.wait(GUARD_S)
        done = running.kill(signal.SIGKILL)
    assert done.code == -signal.SIGKILL
    names = {path.name for path in upgrade.store_dir.iterdir()}
    assert names <= {"item", upgrade.old.name}
    assert sorted(config.rglob("*")) == before

"""The sources of items for this machine's store: its daemon, its database, one behind the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guix_glue.errors import DaemonError, DatabaseError, InvalidFacts, ProtocolError
from guix_glue.local.daemon import GuixDaemon
from guix_glue.local.environment import GuixEnvironment
from guix_glue.local.items import (
    DaemonItems,
    DatabaseItems,
    FallbackItems,
    Items,
    open_store_items,
)
from guix_glue.local.store_db import StoreDatabase
from guix_glue.model import StoreItem
from tests.guix_glue.local.databases import STORE_DIR, make_database
from tests.guix_glue.local.session import (
    APP,
    APP_FOUND,
    APP_INFO,
    APP_INFO_TURN,
    APP_IS_VALID,
    DONE,
    HANDSHAKE,
    HANGS,
    NO_HASH_PART,
    NOTHING_FOUND,
    FakeDaemon,
    Turn,
    fake_daemon,
    string,
    word,
)

HASH_PART = APP[11:43]
APP_ITEM = StoreItem(
    path=APP,
    nar_hash=APP_INFO.nar_hash,
    nar_size=APP_INFO.nar_size,
    references=tuple(path[11:] for path in APP_INFO.references),
    deriver="9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv",
)
FAILURE = word(0x63787470) + string(b"no") + word(1)


def with_daemon(
    directory: Path, test: Callable[[DaemonItems], Awaitable[None]], *turns: Turn
) -> None:
    async def run() -> None:
        async with fake_daemon(directory, turns) as server:
            items = DaemonItems(GuixDaemon(server.address), STORE_DIR)
            try:
                await test(items)
            finally:
                await items.close()

    asyncio.run(run())


def test_the_daemon_finds(tmp_path: Path) -> None:
    async def test(items: DaemonItems) -> None:
        item = await items.find(HASH_PART)
        assert item == APP_ITEM
        assert items.location(APP_ITEM) == APP
        assert await items.find(NO_HASH_PART) is None
        assert await items.valid(APP)

    with_daemon(tmp_path, test, APP_FOUND, APP_INFO_TURN, NOTHING_FOUND, APP_IS_VALID)


def test_the_daemon_is_not_bothered(tmp_path: Path) -> None:
    async def test(items: DaemonItems) -> None:
        for text in ("", "7xq3", "e" * 32, HASH_PART + "-app", "../" * 8 + "12345678"):
            assert await items.find(text) is None
        for path in ("", "/etc/passwd", APP + "/bin", "/nix/store" + APP[10:]):
            assert not await items.valid(path)

    with_daemon(tmp_path, test)


def test_an_item_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    async def test(items: DaemonItems) -> None:
        assert await items.find(HASH_PART) is None

    not_valid = Turn(APP_IS_VALID.sent, DONE + word(0))
    with_daemon(tmp_path, test, APP_FOUND, Turn(APP_INFO_TURN.sent, FAILURE), not_valid)


def test_a_daemon_that_fails(tmp_path: Path) -> None:
    async def test(items: DaemonItems) -> None:
        with pytest.raises(DaemonError) as caught:
            await items.find(HASH_PART)
        assert caught.value.status == 1

    with_daemon(tmp_path, test, APP_FOUND, Turn(APP_INFO_TURN.sent, FAILURE), APP_IS_VALID)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", f"/gnu/store/{NO_HASH_PART}-x", APP + "\n", APP + "/x", "x", APP[:43]]
)
def test_a_path_that_is_none(tmp_path: Path, path: str) -> None:
    async def test(items: DaemonItems) -> None:
        with pytest.raises(ProtocolError):
            await items.find(HASH_PART)

    found = Turn(APP_FOUND.sent, DONE + string(path.encode()))
    if path.startswith(APP[:43]):
        # It begins well, so what is known of it is asked for.
        asked = word(26) + string(path.encode())
        with_daemon(tmp_path, test, found, Turn(asked, APP_INFO_TURN.received))
    else:
        with_daemon(tmp_path, test, found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (APP_INFO.references[1], "/etc/store/" + APP_INFO.references[1][11:]),
        (APP_INFO.references[1], APP_INFO.references[1].replace("gacy", "eeee")),
        (str(APP_INFO.deriver), str(APP_INFO.deriver).replace("app", "a/p")),
    ],
)
def test_paths_of_elsewhere(tmp_path: Path, old: str, new: str) -> None:
    async def test(items: DaemonItems) -> None:
        with pytest.raises(ProtocolError):
            await items.find(HASH_PART)

    assert len(old) == len(new)
    received = APP_INFO_TURN.received.replace(old.encode(), new.encode())
    assert received != APP_INFO_TURN.received
    with_daemon(tmp_path, test, APP_FOUND, Turn(APP_INFO_TURN.sent, received))


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1])
def test_sizes_that_are_none(tmp_path: Path, size: int) -> None:
    async def test(items: DaemonItems) -> None:
        with pytest.raises(ProtocolError):
            await items.find(HASH_PART)

    received = APP_INFO_TURN.received[:-8] + word(size)
    with_daemon(tmp_path, test, APP_FOUND, Turn(APP_INFO_TURN.sent, received))


@pytest.fixture
def database_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "db"
    directory.mkdir()
    make_database(directory)
    return directory


def test_the_database_finds(database_dir: Path) -> None:
    async def run() -> None:
        items = DatabaseItems(StoreDatabase(str(database_dir), STORE_DIR), STORE_DIR)
        assert await items.find(HASH_PART) == APP_ITEM
        assert await items.find(NO_HASH_PART) is None
        assert await items.valid(APP)
        assert items.location(APP_ITEM) == APP
        await items.close()

    asyncio.run(run())


def both(address: str, database_dir: Path, clock: Callable[[], float]) -> FallbackItems:
    return FallbackItems(
        DaemonItems(GuixDaemon(address), STORE_DIR),
        DatabaseItems(StoreDatabase(str(database_dir), STORE_DIR), STORE_DIR),
        try_again_s=10,
        clock=clock,
    )


def test_the_database_stands_in_for_the_daemon(
    tmp_path: Path, database_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0

    async def run() -> None:
        nonlocal now
        items = both(str(tmp_path / "socket"), database_dir, lambda: now)
        assert items.store_dir == STORE_DIR
        assert await items.find(HASH_PART) == APP_ITEM
        now += 11
        assert await items.find(HASH_PART) == APP_ITEM
        assert len(caplog.records) == 1
        assert "cannot reach the Guix daemon" in caplog.text
        # It is there now, but was given up just before.
        not_valid = Turn(APP_IS_VALID.sent, DONE + word(0))
        async with fake_daemon(tmp_path, [not_valid]) as server:
            now += 9
            assert await items.valid(APP)
            assert server.accepted == 0
            now += 2
            assert not await items.valid(APP)
            assert server.accepted == 1
        assert "answers again" in caplog.text
        await items.close()

    asyncio.run(run())
    assert len(caplog.records) == 2


def test_an_answer_of_the_daemon_is_the_answer(tmp_path: Path, database_dir: Path) -> None:
    async def run() -> None:
        turns = [Turn(APP_FOUND.sent, FAILURE), NOTHING_FOUND]
        async with fake_daemon(tmp_path, turns) as server:
            items = both(server.address, database_dir, lambda: 0.0)
            with pytest.raises(DaemonError, match="no"):
                await items.find(HASH_PART)
            assert await items.find(NO_HASH_PART) is None
            await items.close()

    asyncio.run(run())


def test_one_odd_item_is_no_reason_to_give_up_the_daemon(
    tmp_path: Path, database_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Turn(APP_INFO_TURN.sent, APP_INFO_TURN.received[:-8] + word(0))

    async def run() -> None:
        async with fake_daemon(tmp_path, [APP_FOUND, odd, NOTHING_FOUND]) as server:
            items = both(server.address, database_dir, lambda: 0.0)
            with pytest.raises(InvalidFacts):
                await items.find(HASH_PART)
            # This turn is the daemon's: the database is not asked.
            assert await items.find(NO_HASH_PART) is None
            assert server.accepted == 1
            await items.close()

    asyncio.run(run())
    assert caplog.records == []


def test_another_daemon_than_guixs(tmp_path: Path, database_dir: Path) -> None:
    async def run() -> None:
        nix = Turn(HANDSHAKE[0].sent, HANDSHAKE[0].received[:8] + word(0x120))
        daemon = FakeDaemon(str(tmp_path / "socket"), [[nix]])
        async with await asyncio.start_unix_server(daemon.serve, daemon.address):
            items = both(daemon.address, database_dir, lambda: 0.0)
            assert await items.valid(APP)
            await items.close()

    asyncio.run(run())


def test_neither_daemon_nor_database(tmp_path: Path) -> None:
    async def run() -> None:
        items = both(str(tmp_path / "socket"), tmp_path, lambda: 0.0)
        with pytest.raises(DatabaseError):
            await items.find(HASH_PART)
        await items.close()

    asyncio.run(run())


def test_a_stuck_daemon_keeps_only_one_waiting(tmp_path: Path, database_dir: Path) -> None:
    async def run() -> None:
        stuck = Turn(APP_FOUND.sent, HANGS)
        async with fake_daemon(tmp_path, [stuck]) as server:
            database = DatabaseItems(StoreDatabase(str(database_dir), STORE_DIR), STORE_DIR)
            daemon = GuixDaemon(server.address, silence_timeout_s=0.05)
            items: Items = FallbackItems(DaemonItems(daemon, STORE_DIR), database)
            found = await asyncio.gather(*(items.find(HASH_PART) for _ in range(20)))
            assert found == [APP_ITEM] * 20
            assert server.accepted == 1
            await items.close()

    asyncio.run(run())


def test_the_items_of_an_environment(tmp_path: Path, database_dir: Path) -> None:
    environment = GuixEnvironment.from_environ({"GUIX_STATE_DIRECTORY": str(tmp_path)})

    async def run() -> None:
        items = open_store_items(environment)
        assert await items.find(HASH_PART) == APP_ITEM
        await items.close()

    asyncio.run(run())
    with pytest.raises(DaemonError):
        open_store_items(replace(environment, daemon_socket="ssh://elsewhere"))

"""A real daemon on a store that is damaged, or is none."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from eris import BlockNotFound, BlockSize, Reference
from eris.errors import StoreFull
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import Daemon, running_daemon
from tests.kapla.storage.databases import make_blocks


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def put_all(daemon: Daemon, blocks: dict[Reference, bytes]) -> None:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        await asyncio.gather(*[store.put(*item) for item in blocks.items()])


async def put_until_full(daemon: Daemon, blocks: dict[Reference, bytes]) -> None:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        answers = await asyncio.gather(
            *[store.put(*item) for item in blocks.items()], return_exceptions=True
        )
    assert all(answer is None or isinstance(answer, StoreFull) for answer in answers)


async def stat(daemon: Daemon) -> dict[str, object]:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        return await store.stat()


async def count_found(daemon: Daemon, blocks: dict[Reference, bytes]) -> int:
    async with RemoteStore(parse_store_url(daemon.url)) as store:
        answers = await asyncio.gather(
            *[store.get(name, BlockSize.SMALL) for name in blocks], return_exceptions=True
        )
    assert all(isinstance(answer, bytes | BlockNotFound) for answer in answers)
    return sum(isinstance(answer, bytes) for answer in answers)


def test_the_index_is_made_anew_when_asked(tmp_path: Path) -> None:
    """Damage that nobody can see: every value can be read, and is wrong."""
    blocks = make_blocks(500)
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, blocks))
        assert daemon.stop() == 0
        change(
            daemon.store,
            "UPDATE recent SET prefixes = zeroblob(length(prefixes))",
            "UPDATE totals SET blocks = 7",
        )
        daemon.start()
        assert asyncio.run(count_found(daemon, blocks)) == 0
        assert daemon.stop() == 0
        daemon._args.append("--rebuild-index")
        daemon.start()
        daemon.wait_for_log("The index is made anew: 500 blocks")
        assert asyncio.run(count_found(daemon, blocks)) == 500
        assert asyncio.run(stat(daemon))["blocks"] == {"1024": 500, "32768": 0}


def test_damaged_totals_are_told_rightly(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        asyncio.run(put_all(daemon, make_blocks(50)))
        assert daemon.stop() == 0
        change(daemon.store, "DELETE FROM totals")
        daemon.start()
        assert asyncio.run(stat(daemon))["blocks"] == {"1024": 50, "32768": 0}
        assert "Traceback" not in daemon.log


def test_a_full_store_is_told_of(tmp_path: Path) -> None:
    with running_daemon(
        tmp_path, env={"KAPLA_MAX_SIZE": "1 MiB", "KAPLA_WHEN_FULL": "refuse"}
    ) as daemon:
        asyncio.run(put_until_full(daemon, make_blocks(2000)))
        report = asyncio.run(stat(daemon))
        assert isinstance(report["full_blocks"], int)
        assert 1000 < report["full_blocks"] < 2000
        assert daemon.log.count("the store is full") == 1


def test_a_directory_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "blocks.sqlite").mkdir()
    daemon = Daemon(tmp_path)
    daemon.spawn()
    assert daemon.wait() == 1
    assert "Is a directory" in daemon.log

"""`kill -9` of the daemon in the middle of an encode, again and again, at different moments.

The moment is counted in acknowledged blocks, not in time. Whatever was acknowledged must be there.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eris import (
    BlockSize,
    BlockWriter,
    ReadCapability,
    Reference,
    StoreUnavailable,
    get_content,
    put_content,
    reference_of,
)
from eris.transfer import DEFAULT_WINDOW
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import Daemon, running_daemon


class CountedStore:
    """Remembers what was acknowledged, and does something at the nth time."""

    def __init__(self, inner: BlockWriter, nth: int, act: Callable[[], object]) -> None:
        self.acknowledged: list[Reference] = []
        self._inner = inner
        self._nth = nth
        self._act = act

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        return await self._inner.get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        await self._inner.put(reference, block)
        self.acknowledged.append(reference)
        if len(self.acknowledged) == self._nth:
            self._act()


def remote(daemon: Daemon) -> RemoteStore:
    return RemoteStore(parse_store_url(daemon.url))


async def encode_until_killed(
    daemon: Daemon, content: bytes, block_size: BlockSize, nth: int
) -> list[Reference]:
    async with remote(daemon) as inner:
        store = CountedStore(inner, nth, daemon.kill)
        with pytest.raises(StoreUnavailable):
            await put_content(store, content, block_size=block_size)
    assert len(store.acknowledged) >= nth
    return store.acknowledged


async def check_blocks(daemon: Daemon, references: list[Reference], block_size: BlockSize) -> None:
    async with remote(daemon) as store:
        for start in range(0, len(references), 500):
            part = references[start : start + 500]
            blocks = await asyncio.gather(*[store.get(name, block_size) for name in part])
            assert [reference_of(block) for block in blocks] == part


async def encode(daemon: Daemon, content: bytes, block_size: BlockSize) -> ReadCapability:
    async with remote(daemon) as store:
        return await put_content(store, content, block_size=block_size)


async def decode(daemon: Daemon, capability: ReadCapability) -> bytes:
    async with remote(daemon) as store:
        return await get_content(store, capability)


def check_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = dict(
            connection.execute("SELECT length(block), count(*) FROM blocks GROUP BY 1").fetchall()
        )
        totals = dict(connection.execute("SELECT block_size, blocks FROM totals").fetchall())
        assert {size: count for size, count in totals.items() if count} == counted


@pytest.mark.parametrize(
    ("synchronous", "block_size", "moments"),
    [
        ("normal", BlockSize.SMALL, [1, 64, 100, 1000, 2500]),
        ("normal", BlockSize.LARGE, [1, 40, 200]),
        # It makes no difference to a daemon that is killed, but for a power cut: some will do.
        ("full", BlockSize.SMALL, [1, 1000]),
        ("full", BlockSize.LARGE, [40]),
    ],
    ids=lambda value: value.label if isinstance(value, BlockSize) else str(value),
)
def test_what_was_acknowledged_is_there(
    synchronous: str, block_size: BlockSize, moments: list[int]
) -> None:
    # More is left at each moment than can be under way: the rest cannot have got through.
    content = random.Random(1).randbytes((moments[-1] + DEFAULT_WINDOW + 1) * block_size)
    acknowledged: set[Reference] = set()
    with running_daemon(env={"KAPLA_SYNCHRONOUS": synchronous}) as daemon:
        for nth in moments:
            # Each round gets further than the last, through blocks that are known already.
            acknowledged.update(asyncio.run(encode_until_killed(daemon, content, block_size, nth)))
            daemon.start()
            asyncio.run(check_blocks(daemon, sorted(acknowledged), block_size))
        capability = asyncio.run(encode(daemon, content, block_size))
        assert asyncio.run(decode(daemon, capability)) == content
        daemon.kill()
        check_database(daemon.store)
        daemon.start()
        assert asyncio.run(decode(daemon, capability)) == content
        assert daemon.stop() == 0
        check_database(daemon.store)


def test_killed_before_it_listened(tmp_path: Path) -> None:
    """A database that was only half made is made whole by the next start."""
    with running_daemon() as daemon:
        daemon.kill()
        # What the first moments of a start leave: an empty file, or one without tables.
        daemon.store.unlink()
        for end in ("-wal", "-shm"):
            daemon.store.with_name(daemon.store.name + end).unlink(missing_ok=True)
        daemon.store.touch()
        daemon.start()
        daemon.kill()
        daemon.store.unlink()
        with closing(sqlite3.connect(daemon.store)) as connection:
            connection.execute("PRAGMA page_size = 16384")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        for end in ("-wal", "-shm"):
            daemon.store.with_name(daemon.store.name + end).unlink(missing_ok=True)
        daemon.start()
        capability = asyncio.run(encode(daemon, b"content", BlockSize.SMALL))
        assert asyncio.run(decode(daemon, capability)) == b"content"

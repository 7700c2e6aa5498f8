"""A generation that is gone over is dropped, whoever does something else meanwhile."""

from __future__ import annotations

import asyncio
import time

import psycopg

from eris import BlockSize
from kapla.storage.batching import BatchedStorage
from kapla.storage.postgresql import counts, locks
from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.contract.stores import MIB, batched, get, make_blocks, put
from tests.postgres import Server

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
BESIDE = """
SELECT count(*)
FROM (SELECT generation FROM totals UNION ALL SELECT generation FROM added) AS counted
WHERE generation NOT IN (SELECT number FROM generations)
"""


async def flood(storage: BatchedStorage, first: int = 0) -> None:
    """More than there is room for."""
    for seed in range(first, first + 10):
        await put(storage, make_blocks(15, BlockSize.LARGE, seed))


def wait_until_somebody_waits(server: Server, url: str) -> None:
    while server.execute(WAITING, url) == [(0,)]:
        time.sleep(0.01)


def test_what_is_added_up_meanwhile_is_no_total_of_what_is_gone(
    postgres_url: str, postgres_server: Server
) -> None:
    async def main() -> None:
        async with batched(PostgresSettings.of(postgres_url, max_size=2 * MIB)) as storage:
            await put(storage, make_blocks(100))
            with psycopg.connect(postgres_url) as connection, connection.cursor() as cursor:
                # As a front end that is slow about it.
                counts.fold(cursor)
                flooding = asyncio.ensure_future(flood(storage))
                await asyncio.to_thread(wait_until_somebody_waits, postgres_server, postgres_url)
            await flooding
            assert storage.evicted_blocks > 0
            assert postgres_server.execute(BESIDE, postgres_url) == [(0,)]

    asyncio.run(main())


def test_what_is_read_for_long_is_dropped_later(postgres_url: str) -> None:
    """As by `pg_dump`: meanwhile others put and get, as far as there is room."""
    first = make_blocks(100)

    async def main() -> None:
        async with batched(PostgresSettings.of(postgres_url, max_size=4 * MIB)) as storage:
            await put(storage, first)
            with psycopg.connect(postgres_url) as connection:
                connection.execute("SELECT count(*) FROM blocks_1")
                before = await storage.do(lambda writer: writer.front.stored)
                # Until it is marked, as there is little room.
                seed = 100
                while before < 4 * MIB - 16 * 36_000:
                    await put(storage, make_blocks(4, BlockSize.LARGE, seed))
                    before = await storage.do(lambda writer: writer.front.stored)
                    seed += 1
                for small in range(20):
                    blocks = make_blocks(4, seed=1000 + small)
                    await put(storage, blocks)
                    assert await get(storage, list(blocks)) == list(blocks.values())
                assert await get(storage, list(first)) == list(first.values())
            await flood(storage)
            assert storage.evicted_blocks > 0
            assert (await storage.totals())[1] <= 4 * MIB

    asyncio.run(main())


def test_whoever_adds_up_waits_for_nobody(postgres_url: str, postgres_server: Server) -> None:
    async def main() -> None:
        async with batched(PostgresSettings.of(postgres_url)) as storage:
            await put(storage, make_blocks(10))
            with psycopg.connect(postgres_url) as connection:
                connection.execute(locks.exclusive(locks.FOLDING).encode())
                await storage.do(lambda writer: writer.session.retried(counts.fold))
            await storage.do(lambda writer: writer.session.retried(counts.fold))
            assert postgres_server.execute("SELECT small FROM totals", postgres_url) == [(10,)]

    asyncio.run(main())

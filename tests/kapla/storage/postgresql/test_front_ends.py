"""Several front ends of one database: what one acknowledges, all have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eris import BlockSize, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.contract.stores import (
    MIB,
    batched,
    find,
    get,
    list_all,
    make_blocks,
    put,
)
from tests.postgres import Server


@asynccontextmanager
async def two(url: str, **options: Any) -> AsyncIterator[tuple[BatchedStorage, BatchedStorage]]:
    """Two front ends."""
    settings = PostgresSettings.of(url, **options)
    async with batched(settings) as one, batched(settings) as other:
        yield one, other


async def put_all(storage: BatchedStorage, blocks: dict[Reference, bytes]) -> None:
    """In parts, a few at a time."""
    items = list(blocks.items())
    turns = asyncio.Semaphore(8)

    async def put_part(start: int) -> None:
        async with turns:
            await put(storage, dict(items[start : start + 20]))

    await asyncio.gather(*map(put_part, range(0, len(items), 20)))


def test_the_same_blocks_at_once(postgres_url: str, postgres_server: Server) -> None:
    """Four writers with the same blocks: none is in the other's way, and each counts once."""
    blocks = make_blocks(1000)
    backwards = dict(reversed(blocks.items()))

    async def main() -> None:
        async with two(postgres_url) as (one, other):
            await asyncio.gather(put_all(one, blocks), put_all(other, backwards))
            assert one.new_blocks + other.new_blocks == 1000
            for storage in (one, other):
                assert (await storage.totals())[0][1024] == 1000

    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    asyncio.run(main())
    assert postgres_server.execute(deadlocks, postgres_url) == [(0,)]


def test_generations_begin_while_both_write(postgres_url: str) -> None:
    first, second = make_blocks(1200, seed=1), make_blocks(1200, seed=2)
    shared = make_blocks(400, seed=3)
    generation = 200 * 1024

    async def main() -> None:
        async with two(postgres_url, generation_bytes=generation) as (one, other):
            await asyncio.gather(
                put_all(one, first | shared),
                put_all(other, dict(reversed((second | shared).items()))),
            )
            everything = first | second | shared
            for storage in (one, other):
                assert await get(storage, list(everything)) == list(everything.values())
                assert (await storage.totals())[0][1024] == len(everything)
            listed = await list_all(one)
            assert sorted(listed) == sorted(everything)

    asyncio.run(main())


def test_what_one_acknowledged_the_other_has_at_once(postgres_url: str) -> None:
    async def main() -> None:
        # Each PUT fills a generation: the other one's list is always an old one.
        async with two(postgres_url, generation_bytes=1) as (one, other):
            for seed in range(12):
                part = make_blocks(5, seed=seed)
                writes, reads = (one, other) if seed % 2 else (other, one)
                await put(writes, part)
                assert await find(reads, list(part)) == [True] * 5
                assert await get(reads, list(part)) == list(part.values())
                await put(reads, part)
            assert one.new_blocks + other.new_blocks == 60

    asyncio.run(main())


def test_what_is_put_again_while_it_leaves_is_there(postgres_url: str) -> None:
    """An acknowledgement holds, also of what was there already and was about to go."""
    mine = make_blocks(60, seed=77)

    async def main() -> None:
        async with two(postgres_url, max_size=2 * MIB) as (one, other):

            async def flood() -> None:
                for seed in range(25):
                    await put(other, make_blocks(8, BlockSize.LARGE, seed))

            flooding = asyncio.ensure_future(flood())
            while not flooding.done():
                await put(one, mine)
                assert await get(other, list(mine)) == list(mine.values())
            await flooding
            assert one.evicted_blocks + other.evicted_blocks > 100

    asyncio.run(main())


def test_what_the_other_one_read_stays(postgres_url: str) -> None:
    liked, others = make_blocks(100, seed=1), make_blocks(100, seed=2)

    async def main() -> None:
        async with two(postgres_url, max_size=2 * MIB) as (one, other):
            await put(one, liked | others)
            for seed in range(10):
                # Only one reads, and both make room.
                assert await get(other, list(liked)) == list(liked.values())
                await put(one, make_blocks(15, BlockSize.LARGE, seed))
            # Whoever notices first makes room.
            assert one.evicted_blocks + other.evicted_blocks > 100
            assert await get(other, list(liked)) == list(liked.values())
            assert not any(await find(other, list(others)))

    asyncio.run(main())


def test_who_is_gone_is_not_waited_for(postgres_url: str, postgres_server: Server) -> None:
    async def main() -> None:
        settings = PostgresSettings.of(postgres_url, max_size=2 * MIB)
        async with batched(settings) as storage:
            # It was killed a minute ago, and had said nothing for a long time.
            postgres_server.execute(
                "INSERT INTO fronts (epoch, seen) VALUES (0, now() - interval '1 minute')",
                postgres_url,
            )
            for seed in range(20):
                await put(storage, make_blocks(8, BlockSize.LARGE, seed))
            assert storage.evicted_blocks > 0

    asyncio.run(main())

"""A store with a cap makes room: what is old goes, what was read stays longer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from eris import BlockSize, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.settling import settle
from tests.kapla.storage.contract.stores import MIB, Kind, batched, find, get, make_blocks, put

CAP = 4 * MIB


async def flood(storage: BatchedStorage, count: int, seed: int) -> list[Reference]:
    """Put large blocks, ten at a time."""
    names: list[Reference] = []
    for number in range(count // 10):
        part = make_blocks(10, BlockSize.LARGE, seed * 1000 + number)
        await put(storage, part)
        names += part
    return names


def test_the_newest_stay_and_the_oldest_go(kind: Kind) -> None:
    async def main() -> None:
        async with batched(kind.settings(max_size=CAP)) as storage:
            names = await flood(storage, 300, 1)
            totals, size = await storage.totals()
            assert size <= CAP
            assert totals[32768] <= CAP // 32768
            there = await find(storage, names)
            # At least half of the cap is used.
            assert sum(there) >= CAP // 32768 // 2
            assert all(there[-30:])
            assert not any(there[:150])
            assert storage.evicted_blocks >= 150

    asyncio.run(main())


def test_what_is_read_stays(kind: Kind) -> None:
    liked, others = make_blocks(300, seed=1), make_blocks(300, seed=2)

    async def main() -> None:
        async with batched(kind.settings(max_size=CAP)) as storage:
            await put(storage, liked)
            await put(storage, others)
            for seed in range(8):
                assert await get(storage, list(liked)) == list(liked.values())
                await flood(storage, 50, seed)
            assert await get(storage, list(liked)) == list(liked.values())
            assert not any(await find(storage, list(others)))

    asyncio.run(main())


def test_where_all_is_read_the_oldest_go_all_the_same(kind: Kind) -> None:
    async def main() -> None:
        async with batched(kind.settings(max_size=CAP)) as storage:
            names: list[Reference] = []
            for seed in range(6):
                names += await flood(storage, 40, seed)
                await find(storage, names)
            assert (await storage.totals())[1] <= CAP

    asyncio.run(main())


def test_it_goes_on_with_what_there_is_when_it_is_opened_again(kind: Kind) -> None:
    async def main() -> None:
        for seed in range(3):
            async with batched(kind.settings(max_size=CAP)) as storage:
                names = await flood(storage, 100, seed)
                assert all(await find(storage, names[-30:]))
                assert (await storage.totals())[1] <= CAP

    asyncio.run(main())


def test_another_cap_holds_at_once(kind: Kind) -> None:
    async def main() -> None:
        settings: Any = kind.settings()
        async with batched(settings) as storage:
            names = await flood(storage, 200, 1)
            assert all(await find(storage, names))
            await settle(storage, replace(settings, max_size=CAP))
            names = await flood(storage, 50, 2)
            _, size = await storage.totals()
            assert size <= CAP
            assert all(await find(storage, names[-30:]))

    asyncio.run(main())

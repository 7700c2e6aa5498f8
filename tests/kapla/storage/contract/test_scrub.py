"""All blocks are looked at when somebody asks: what is bad goes, and may come again."""

from __future__ import annotations

import asyncio

from eris import BlockSize
from kapla.storage.batching import BatchedStorage
from tests.kapla.storage.contract.stores import OWNER, Kind, batched, find, get, make_blocks, put
from tests.kapla.storage.databases import under_pin


def test_sound_blocks_are_all_looked_at(kind: Kind) -> None:
    async def main() -> None:
        async with batched(kind.settings()) as storage:
            await put(storage, make_blocks(1500))
            await put(storage, make_blocks(60, BlockSize.LARGE))
            await storage.scrubbing.ask()
            await storage.scrubbing.ended()
            status = storage.scrubbing.status
            assert (status.blocks, status.bad, status.is_failed) == (1560, 0, False)
            assert status.bytes == status.of == 1500 * 1024 + 60 * 32768

    asyncio.run(main())


def test_bad_blocks_of_a_pin_are_missing_until_they_come_again(kind: Kind) -> None:
    blocks = make_blocks(50)
    bad = list(blocks)[17:20]

    async def told(storage: BatchedStorage) -> list[tuple[int, int]]:
        found, _ = await storage.pinning.list(OWNER, None, 10)
        return [(pin.small, pin.missing) for pin in found]

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            for name, some in (("a", blocks), ("b", make_blocks(30)), ("c", make_blocks(9))):
                pin = await storage.pinning.open(OWNER)
                await under_pin(storage, list(some.values()), pin)
                await storage.pinning.close(pin, name=name)
        for reference in bad:
            kind.spoil(reference)
        async with batched(kind.settings()) as storage:
            await storage.scrubbing.ask()
            await storage.scrubbing.ended()
            assert await told(storage) == [(47, 3), (27, 3), (9, 0)]
            await put(storage, blocks)
            assert await told(storage) == [(50, 0), (30, 0), (9, 0)]

    asyncio.run(main())


def test_bad_blocks_go_and_good_ones_come_again(kind: Kind) -> None:
    blocks = make_blocks(200)
    bad = list(blocks)[17:20]

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            await put(storage, blocks)
        for reference in bad:
            kind.spoil(reference)
        async with batched(kind.settings()) as storage:
            await storage.scrubbing.ask()
            await storage.scrubbing.ended()
            assert storage.scrubbing.status.bad == storage.scrubbing.bad_blocks == 3
            assert (await storage.totals())[0][1024] == 197
            assert await find(storage, bad) == [False] * 3
            await put(storage, blocks)
            assert storage.new_blocks == 3
            assert await get(storage, list(blocks)) == list(blocks.values())
            await storage.scrubbing.ask()
            await storage.scrubbing.ended()
            assert storage.scrubbing.status.bad == 0

    asyncio.run(main())

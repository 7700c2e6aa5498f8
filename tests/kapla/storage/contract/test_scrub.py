"""All blocks are looked at when somebody asks: what is bad goes, and may come again."""

from __future__ import annotations

import asyncio

from eris import BlockSize
from tests.kapla.storage.contract.stores import Kind, batched, find, get, make_blocks, put


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


def test_bad_blocks_go_and_good_ones_come_again(kind: Kind) -> None:
    blocks = make_blocks(200)
    bad = list(blocks)[17:20]

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            await put(storage, blocks)
        for name in bad:
            kind.spoil(name)
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

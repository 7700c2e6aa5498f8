"""What is pinned stays, and what is lent is all that strangers are told of."""

from __future__ import annotations

import asyncio

import pytest

from eris import BlockSize, Reference
from eris.errors import StoreFull
from kapla.errors import PinIncomplete, PinNotFound
from kapla.storage.batching import BatchedStorage
from tests.kapla.storage.contract.stores import (
    MIB,
    OWNER,
    Kind,
    batched,
    find,
    get,
    keep,
    lent,
    make_blocks,
    put,
)
from tests.kapla.storage.databases import under_pin


async def flood(storage: BatchedStorage, seed: int, count: int = 150) -> None:
    """More than the store has room for."""
    for number in range(count // 10):
        await put(storage, make_blocks(10, BlockSize.LARGE, seed * 1000 + number))


async def pinned(storage: BatchedStorage, name: str, blocks: dict[Reference, bytes]) -> None:
    """A pin over these."""
    pin = await storage.pinning.open(OWNER)
    await under_pin(storage, list(blocks.values()), pin)
    await storage.pinning.close(pin, name=name)


def test_what_is_pinned_stays_until_it_is_released(kind: Kind) -> None:
    kept, held, found = (make_blocks(150, seed=seed) for seed in range(3))

    async def main() -> None:
        async with batched(kind.settings(max_size=4 * MIB)) as storage:
            await put(storage, found)
            await pinned(storage, "a", kept)
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(held.values()), pin)
            assert all(await storage.pinning.want(pin, list(found)))
            await flood(storage, 1)
            for blocks in (kept, held, found):
                assert await get(storage, list(blocks)) == list(blocks.values())
            await storage.pinning.release(OWNER, name="a")
            await flood(storage, 2)
            await flood(storage, 3)
            assert not any(await find(storage, list(kept)))
            assert all(await find(storage, [*held, *found]))
            await storage.pinning.abandon(pin)
            await flood(storage, 4)
            await flood(storage, 5)
            assert not any(await find(storage, [*held, *found]))

    asyncio.run(main())


def test_a_store_that_is_all_pinned_refuses(kind: Kind) -> None:
    async def main() -> None:
        settings = kind.settings(max_size=4 * MIB, max_pinned=64 * MIB)
        async with batched(settings) as storage:
            pin = await storage.pinning.open(OWNER)
            kept: dict[Reference, bytes] = {}
            with pytest.raises((StoreFull, AssertionError)):
                for seed in range(40):
                    part = make_blocks(10, BlockSize.LARGE, seed)
                    await under_pin(storage, list(part.values()), pin)
                    kept |= part
            assert len(kept) >= 40
            assert await get(storage, list(kept)) == list(kept.values())

    asyncio.run(main())


def test_pins_are_told_of(kind: Kind) -> None:
    blocks = make_blocks(20) | make_blocks(2, BlockSize.LARGE)
    absent = list(make_blocks(3, seed=5))

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(make_blocks(20).values()), pin)
            await under_pin(storage, list(make_blocks(2, BlockSize.LARGE).values()), pin)
            assert await storage.pinning.want(pin, absent) == [False] * 3
            with pytest.raises(PinIncomplete):
                await storage.pinning.close(pin, name="x")
            summary = await storage.pinning.close(pin, name="x", incomplete=True)
            assert (summary.small, summary.large, summary.missing) == (20, 2, 3)
            # What it lacks, it has when it comes.
            await put(storage, make_blocks(3, seed=5))
            ((told,), last) = await storage.pinning.list(OWNER, None, 10)
            assert (told.name, told.owner, told.small, told.missing) == ("x", OWNER, 23, 0)
            assert last is None
            assert await storage.pinning.count() == 1
        async with batched(kind.settings()) as storage:
            assert (await storage.pinning.release(OWNER, name="x")).small == 23
            with pytest.raises(PinNotFound):
                await storage.pinning.release(OWNER, name="x")
            assert await get(storage, list(blocks)) == list(blocks.values())

    asyncio.run(main())


def test_only_what_is_lent_is_there_for_strangers(kind: Kind) -> None:
    mine, theirs = make_blocks(30, seed=1), make_blocks(30, seed=2)
    names = [*mine, *theirs]

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            assert not any(await lent(storage, names))
            await put(storage, mine)
            await keep(storage, theirs, lend=True)
            assert await lent(storage, names) == [False] * 30 + [True] * 30

    asyncio.run(main())

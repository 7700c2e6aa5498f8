"""What is pinned or held stays in a store with a cap; what is pinned and not kept may go."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eris import BlockSize, Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    put_many,
    settings_for,
    under_pin,
)

OWNER = 1000
MIB = 1 << 20


async def flood(storage: BatchedStorage, seed: int, count: int = 150) -> None:
    """More than the store has room for."""
    blocks = list(make_blocks(count, BlockSize.LARGE, seed).values())
    for start in range(0, count, 10):
        assert await put_many(storage, blocks[start : start + 10]) is None


async def there(storage: BatchedStorage, names: list[Reference]) -> int:
    found = await get_many(storage, names)
    assert isinstance(found, list)
    return sum(block is not None for block in found)


def test_what_is_pinned_or_held_stays_and_goes_when_it_is_released(tmp_path: Path) -> None:
    closed, held, found = (make_blocks(200, seed=seed) for seed in range(3))

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            await put_many(storage, list(found.values()))
            first = await storage.pinning.open(OWNER)
            await under_pin(storage, list(closed.values()), first)
            await storage.pinning.close(first, name="a")
            second = await storage.pinning.open(OWNER)
            await under_pin(storage, list(held.values()), second)
            assert all(await storage.pinning.want(second, list(found)))
            await flood(storage, 10)
            assert await there(storage, [*closed, *held, *found]) == 600
            await storage.pinning.release(OWNER, name="a")
            await flood(storage, 11)
            assert await there(storage, list(closed)) == 0
            assert await there(storage, [*held, *found]) == 400
            await storage.pinning.abandon(second)
            await flood(storage, 12)
            assert await there(storage, [*held, *found]) == 0

    asyncio.run(main())


def test_what_was_promised_while_others_made_room_is_there(tmp_path: Path) -> None:
    """A yes under a pin is never about what is just going."""
    parts = [make_blocks(64, seed=seed) for seed in range(12)]

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            for part in parts:
                await put_many(storage, list(part.values()))
            pin = await storage.pinning.open(OWNER)
            promised: list[Reference] = []

            async def ask(part: list[Reference]) -> None:
                there = await storage.pinning.want(pin, part)
                promised.extend(
                    name for name, is_there in zip(part, there, strict=True) if is_there
                )

            flooding = asyncio.ensure_future(flood(storage, 30))
            for part in parts:
                await ask(list(part))
            await flooding
            assert promised
            assert await there(storage, promised) == len(promised)
            closed = await storage.pinning.close(pin, name="a", incomplete=True)
            assert (closed.small, closed.missing) == (len(promised), 64 * 12 - len(promised))

    asyncio.run(main())


async def lend(storage: BatchedStorage, blocks: list[bytes]) -> OpenPin:
    pin = await storage.pinning.open(OWNER)
    await under_pin(storage, blocks, pin)
    await storage.pinning.close(pin, name="lent", lend=True, keep=False)
    return pin


def test_what_a_pin_does_not_keep_is_missing_when_it_has_gone(tmp_path: Path) -> None:
    blocks = make_blocks(200)

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            await lend(storage, list(blocks.values()))
            assert len(keeping_of(storage).lent) == 200
            await flood(storage, 10)
            [pin], _ = await storage.pinning.list(OWNER, None, 9)
            assert (pin.small, pin.missing) == (0, 200)
            assert len(keeping_of(storage).lent) == 0
            # It is lent again when it comes again.
            await put_many(storage, list(blocks.values())[:50])
            [pin], _ = await storage.pinning.list(OWNER, None, 9)
            assert (pin.small, pin.missing) == (50, 150)
            assert len(keeping_of(storage).lent) == 50

    asyncio.run(main())


def test_what_a_pin_does_not_keep_stays_lent_where_it_moves(tmp_path: Path) -> None:
    blocks = make_blocks(100)

    async def main() -> None:
        settings = settings_for(tmp_path, max_size=4 * MIB)
        async with batched(settings) as storage:
            await lend(storage, list(blocks.values()))
            for seed in range(10, 22):
                # What is read goes to the end, under new ids.
                assert await there(storage, list(blocks)) == 100
                await flood(storage, seed, 30)
            assert storage.evicted_blocks > 100
            assert keeping_of(storage).lent.first() != 1
        async with batched(settings) as storage:
            [pin], _ = await storage.pinning.list(OWNER, None, 9)
            assert (pin.small, pin.own_small, pin.missing) == (100, 100, 0)
            assert len(keeping_of(storage).lent) == 100

    asyncio.run(main())


def test_what_goes_to_the_end_and_goes_all_the_same_is_missing(tmp_path: Path) -> None:
    """A pin that does not keep has nothing of what made room, whichever way it went."""
    blocks = make_blocks(200)

    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=2 * MIB)) as storage:
            pin = await storage.pinning.open(OWNER)
            await under_pin(storage, list(blocks.values()), pin)
            await storage.pinning.close(pin, name="a", keep=False, lend=True)
            # All of it is read, so it goes to the end first; and all of it goes at once.
            assert await there(storage, list(blocks)) == 200
            await storage.do(lambda writer: writer._space._evictor.evict(4 * MIB))
            (summary,), _ = await storage.pinning.list(OWNER, None, 10)
            assert await there(storage, list(blocks)) == 0
            assert (summary.small, summary.missing) == (0, 200)
            assert not keeping_of(storage).pinned
            # What comes again is in it again.
            await put_many(storage, list(blocks.values())[:50])
            (summary,), _ = await storage.pinning.list(OWNER, None, 10)
            assert (summary.small, summary.missing) == (50, 150)

    asyncio.run(main())

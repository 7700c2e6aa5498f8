"""What pins lack takes room too: it counts as theirs, and stays within the cap of the store."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from eris.errors import StoreFull
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from kapla.storage.sqlite.keeping.quota import LACKING_BYTES
from tests.kapla.storage.databases import batched, make_blocks, put_many, settings_for
from tests.kapla.storage.keeping.stores import stored_bytes

OWNER, OTHER = 1000, 1001
MIB = 1 << 20


def made_up(count: int, seed: int) -> list[Reference]:
    """References of nothing."""
    source = random.Random(seed)
    return [Reference(source.randbytes(32)) for _ in range(count)]


async def want_all_that_may_be(storage: BatchedStorage, pin: OpenPin, seed: int = 0) -> int:
    """Have a pin lack ever more; returns how much it was when that was too much."""
    for number in range(1000):
        try:
            await storage.pinning.want(pin, made_up(1024, 1000 * seed + number))
        except StoreFull as error:
            assert "pins hold" in str(error) or "the store is full" in str(error)
            return 1024 * number
    raise AssertionError("there was no end")


def test_who_lacks_without_end_is_told_so_and_others_have_their_room(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_size=4 * MIB)

    async def main() -> None:
        async with batched(settings) as storage:
            for seed in range(2):
                pin = await storage.pinning.open(OWNER)
                lacking = await want_all_that_may_be(storage, pin, seed)
                assert lacking <= 2 * MIB // LACKING_BYTES
                # The cap, with what the WAL may have beside so small a store.
                assert stored_bytes(settings) < 6 * MIB
                await storage.pinning.abandon(pin)
            other = await storage.pinning.open(OTHER, wants=MIB // 2)
            assert other.room >= MIB // 2
            blocks = list(make_blocks(16, BlockSize.LARGE).values())
            assert await put_many(storage, blocks) is None

    asyncio.run(main())


def test_what_is_forgotten_of_a_pin_that_is_gone_counts_until_then(tmp_path: Path) -> None:
    async def main() -> None:
        async with batched(settings_for(tmp_path, max_size=4 * MIB)) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, made_up(8192, 1))
            await storage.pinning.abandon(pin)
            quota = await storage.do(lambda writer: writer.pins.quota)
            assert quota.lacking[OWNER] == 8192
            while quota.lacking[OWNER]:  # noqa: ASYNC110 - the upkeep has no event
                await asyncio.sleep(0.05)
            again = await storage.pinning.open(OWNER)
            await storage.pinning.want(again, made_up(8192, 2))

    asyncio.run(main())


def test_what_is_lacking_is_counted_the_same_after_a_restart_and_once_it_came(
    tmp_path: Path,
) -> None:
    settings = settings_for(tmp_path, max_size=4 * MIB)
    blocks = make_blocks(100)

    async def main() -> None:
        async with batched(settings) as storage:
            pin = await storage.pinning.open(OWNER)
            await storage.pinning.want(pin, [*blocks, *made_up(100, 1)])
            await storage.pinning.close(pin, name="a", incomplete=True)
        async with batched(settings) as storage:
            quota = await storage.do(lambda writer: writer.pins.quota)
            assert quota.lacking == {OWNER: 200}
            assert await put_many(storage, list(blocks.values())) is None
            assert quota.lacking == {OWNER: 100}
            (summary,), _ = await storage.pinning.list(OWNER, None, 10)
            assert (summary.small, summary.missing) == (100, 100)

    asyncio.run(main())


@pytest.mark.parametrize("size", BlockSize, ids=lambda size: size.label)
@pytest.mark.parametrize("cap", [4, 8])
def test_the_room_that_is_told_is_there(tmp_path: Path, cap: int, size: BlockSize) -> None:
    """For as many as there are, one after the other, until all of it is pinned."""
    settings = settings_for(tmp_path, max_size=cap * MIB)

    async def main() -> None:
        async with batched(settings) as storage:
            cache = list(make_blocks(cap * MIB // size, size, 99).values())
            await put_in_parts(storage, cache, None)
            rooms = []
            for owner in range(1000, 1004):
                pin = await storage.pinning.open(owner)
                rooms.append(pin.room)
                content = make_blocks(pin.room // size, size, owner)
                await put_in_parts(storage, list(content.values()), pin)
                await storage.pinning.close(pin, name="all")
            assert sum(rooms) > 0.7 * cap * MIB

    asyncio.run(main())


async def put_in_parts(storage: BatchedStorage, blocks: list[bytes], pin: OpenPin | None) -> None:
    """As many at a time as a client has under way."""
    for start in range(0, len(blocks), 16):
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        hold = None if pin is None else pin.hold
        storage.put_many(blocks[start : start + 16], done.set_result, hold=hold)
        assert await done is None

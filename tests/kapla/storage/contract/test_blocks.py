"""Blocks are put, found, got, counted and listed alike, whatever keeps them."""

from __future__ import annotations

import asyncio

import pytest

from eris import BlockSize, ErisError, Reference, StoreFull
from tests.kapla.storage.contract.stores import (
    MIB,
    Kind,
    batched,
    find,
    get,
    keep,
    list_all,
    make_blocks,
    put,
)
from tests.kapla.storage.databases import put_many


def both_sizes(small: int, large: int, seed: int = 0) -> dict[Reference, bytes]:
    return make_blocks(small, seed=seed) | make_blocks(large, BlockSize.LARGE, seed)


def test_what_was_put_is_got_and_found_and_nothing_else(kind: Kind) -> None:
    blocks, absent = both_sizes(300, 40), make_blocks(50, seed=9)
    names = [name for pair in zip(list(blocks)[::-1], [*absent] * 7, strict=False) for name in pair]

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            assert not any(await find(storage, names))
            await put(storage, make_blocks(300))
            await put(storage, make_blocks(40, BlockSize.LARGE))
            assert await get(storage, names) == [blocks.get(name) for name in names]
            assert await find(storage, names) == [name in blocks for name in names]

    asyncio.run(main())


def test_blocks_of_both_sizes_come_together(kind: Kind) -> None:
    small, large = make_blocks(100), make_blocks(20, BlockSize.LARGE)

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            parts = (small, large, small | large)
            await asyncio.gather(*(keep(storage, part, lend=False) for part in parts))
            assert await get(storage, [*small, *large]) == [*small.values(), *large.values()]
            assert storage.new_blocks == 120

    asyncio.run(main())


def test_a_block_counts_once_however_often_it_comes(kind: Kind) -> None:
    blocks = both_sizes(200, 10)

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            for _ in range(2):
                await put(storage, make_blocks(200))
                await put(storage, make_blocks(10, BlockSize.LARGE))
            # Some again, with some that are new.
            await put(storage, make_blocks(250))
            assert storage.new_blocks == 260
            totals, size = await storage.totals()
            assert totals == {1024: 250, 32768: 10}
            assert 250 * 1024 + 10 * 32768 < size < 4 * MIB
            assert await get(storage, list(blocks)) == list(blocks.values())

    asyncio.run(main())


def test_many_at_once_are_all_answered(kind: Kind) -> None:
    blocks = make_blocks(1200)
    items = list(blocks.items())

    async def main() -> None:
        async with batched(kind.settings()) as storage:

            async def put_part(start: int) -> None:
                await put(storage, dict(items[start : start + 10]))

            # Each twice, and at the same time.
            starts = range(0, 1200, 10)
            await asyncio.gather(*map(put_part, starts), *map(put_part, reversed(starts)))
            assert storage.new_blocks == 1200
            parts = await asyncio.gather(
                *(get(storage, list(blocks)[i : i + 7]) for i in range(0, 1200, 7))
            )
            assert [block for part in parts for block in part] == list(blocks.values())

    asyncio.run(main())


def test_all_of_it_is_there_when_it_is_opened_again(kind: Kind) -> None:
    blocks = both_sizes(500, 20)

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            await put(storage, make_blocks(500))
            await put(storage, make_blocks(20, BlockSize.LARGE))
            before, _ = await storage.totals()
        async with batched(kind.settings()) as storage:
            assert await get(storage, list(blocks)) == list(blocks.values())
            assert (await storage.totals())[0] == before == {1024: 500, 32768: 20}
            await put(storage, make_blocks(500))
            assert storage.new_blocks == 0

    asyncio.run(main())


def test_the_list_has_each_block_once(kind: Kind) -> None:
    blocks = both_sizes(1100, 30)

    async def main() -> None:
        async with batched(kind.settings()) as storage:
            assert await list_all(storage) == []
            await put(storage, make_blocks(1100))
            await put(storage, make_blocks(30, BlockSize.LARGE))
            listed = await list_all(storage)
            assert len(listed) == len(blocks)
            assert set(listed) == set(blocks)
            # A place holds also for who opens it later.
            page = await storage.listing().page(0)
            assert page.following is not None
            following = await storage.listing().page(page.following)
        async with batched(kind.settings()) as storage:
            assert await storage.listing().page(page.following) == following

    asyncio.run(main())


@pytest.mark.parametrize("place", [1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_list_may_be_begun_anywhere(kind: Kind, place: int) -> None:
    async def main() -> None:
        async with batched(kind.settings()) as storage:
            blocks = make_blocks(20)
            await put(storage, blocks)
            page = await storage.listing().page(place)
            assert set(page.references) <= set(blocks)

    asyncio.run(main())


def test_a_full_store_refuses_what_is_new(kind: Kind) -> None:
    async def main() -> None:
        settings = kind.settings(max_size=2 * MIB, when_full="refuse")
        async with batched(settings) as storage:
            kept: dict[Reference, bytes] = {}
            for seed in range(100):
                part = make_blocks(8, BlockSize.LARGE, seed)
                answer = await put_many(storage, list(part.values()))
                if answer is not None:
                    break
                kept |= part
            assert len(kept) >= 32
            # All of them, or each for itself.
            assert not isinstance(answer, ErisError)
            assert answer is not None
            errors = [error for error in answer if error is not None]
            assert errors
            assert all(isinstance(error, StoreFull) for error in errors)
            assert "the store is full" in str(errors[0])
            assert storage.full_blocks == len(errors)
            # What is there is there, and may come again.
            assert await put_many(storage, list(kept.values())[:8]) is None
            assert await get(storage, list(kept)) == list(kept.values())
            refused = [name for name, error in zip(part, answer, strict=True) if error]
            assert not any(await find(storage, refused))

    asyncio.run(main())

"""What every store promises, as `eris/store.py` says it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from eris import (
    BlockFinder,
    BlockNotFound,
    BlockReader,
    BlockSize,
    BlockWriter,
    CorruptBlock,
    ManyWriter,
    Reference,
    StoreRefused,
    get_content,
    put_content,
    read_content,
    reference_of,
)
from tests.contract.stores import ONE_BY_ONE, STORES, OpenStore

every_store = pytest.mark.parametrize("open_store", STORES.values(), ids=STORES.keys())
both_sizes = pytest.mark.parametrize("block_size", BlockSize, ids=lambda size: size.label)


def run(open_store: OpenStore, test: Callable[[BlockWriter], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_store() as store:
            await test(store)

    asyncio.run(main())


def make_blocks(count: int, block_size: BlockSize) -> dict[Reference, bytes]:
    source = random.Random(count)
    blocks = (source.randbytes(block_size) for _ in range(count))
    return {reference_of(block): block for block in blocks}


def make_block(block_size: BlockSize) -> tuple[Reference, bytes]:
    [(reference, block)] = make_blocks(1, block_size).items()
    return reference, block


@every_store
def test_it_tells_which_blocks_it_has(open_store: OpenStore) -> None:
    async def test(store: BlockWriter) -> None:
        assert isinstance(store, BlockFinder)
        blocks = make_blocks(700, BlockSize.SMALL) | make_blocks(5, BlockSize.LARGE)
        for reference, block in list(blocks.items())[::2]:
            await store.put(reference, block)
        names = list(blocks)
        assert await store.find(names) == [place % 2 == 0 for place in range(len(names))]
        assert await store.find([*names[:1], *names[:1]]) == [True, True]

    run(open_store, test)


@every_store
@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 10_000])
def test_it_tells_of_any_number_of_blocks(open_store: OpenStore, count: int) -> None:
    there, block = make_block(BlockSize.SMALL)
    source = random.Random(count)
    references = [Reference(source.randbytes(32)) for _ in range(count)]
    references[-1:] = [there] * min(1, count)

    if count > 1024 and open_store in [STORES[name] for name in ONE_BY_ONE]:
        pytest.skip("it is asked about each block by itself")

    async def test(store: BlockWriter) -> None:
        assert isinstance(store, BlockFinder)
        await store.put(there, block)
        assert await store.find(references) == [one == there for one in references]

    run(open_store, test)


@every_store
def test_it_is_a_store(open_store: OpenStore) -> None:
    async def test(store: BlockWriter) -> None:
        assert isinstance(store, BlockReader)
        assert isinstance(store, BlockWriter)

    run(open_store, test)


@every_store
@both_sizes
def test_get_gives_what_was_put(open_store: OpenStore, block_size: BlockSize) -> None:
    reference, block = make_block(block_size)

    async def test(store: BlockWriter) -> None:
        await store.put(reference, block)
        assert await store.get(reference, block_size) == block
        assert await store.get(reference, block_size) == block

    run(open_store, test)


@every_store
@both_sizes
def test_put_is_idempotent(open_store: OpenStore, block_size: BlockSize) -> None:
    reference, block = make_block(block_size)

    async def test(store: BlockWriter) -> None:
        await store.put(reference, block)
        await store.put(reference, block)
        await asyncio.gather(*[store.put(reference, block) for _ in range(20)])
        assert await store.get(reference, block_size) == block

    run(open_store, test)


@every_store
@both_sizes
def test_a_missing_block_is_named(open_store: OpenStore, block_size: BlockSize) -> None:
    reference, _ = make_block(block_size)
    (other, block), *_ = make_blocks(2, block_size).items()

    async def test(store: BlockWriter) -> None:
        await store.put(other, block)
        with pytest.raises(BlockNotFound) as caught:
            await store.get(reference, block_size)
        assert caught.value.reference == reference

    run(open_store, test)


@every_store
@both_sizes
def test_asking_for_the_wrong_size_tells_both_sizes(
    open_store: OpenStore, block_size: BlockSize
) -> None:
    reference, block = make_block(block_size)
    [wrong_size] = set(BlockSize) - {block_size}

    async def test(store: BlockWriter) -> None:
        await store.put(reference, block)
        with pytest.raises(CorruptBlock) as caught:
            await store.get(reference, wrong_size)
        assert caught.value.reference == reference
        assert caught.value.size == block_size
        assert caught.value.expected_size == wrong_size
        assert await store.get(reference, block_size) == block

    run(open_store, test)


@every_store
@pytest.mark.parametrize("length", [0, 1, 1023, 1025, 32767, 32769])
def test_bytes_of_another_length_are_no_block(open_store: OpenStore, length: int) -> None:
    no_block = bytes(length)
    reference, block = make_block(BlockSize.SMALL)

    async def test(store: BlockWriter) -> None:
        with pytest.raises((CorruptBlock, StoreRefused)):
            await store.put(reference_of(no_block), no_block)
        with pytest.raises(BlockNotFound):
            await store.get(reference_of(no_block), BlockSize.SMALL)
        await store.put(reference, block)
        assert await store.get(reference, BlockSize.SMALL) == block

    run(open_store, test)


@every_store
def test_both_sizes_live_side_by_side(open_store: OpenStore) -> None:
    async def test(store: BlockWriter) -> None:
        for size in BlockSize:
            await store.put(*make_block(size))
        for size in BlockSize:
            reference, block = make_block(size)
            assert await store.get(reference, size) == block

    run(open_store, test)


@every_store
@pytest.mark.parametrize(("block_size", "count"), [(BlockSize.SMALL, 1000), (BlockSize.LARGE, 100)])
def test_many_requests_at_once(open_store: OpenStore, block_size: BlockSize, count: int) -> None:
    blocks = make_blocks(count, block_size)

    async def test(store: BlockWriter) -> None:
        await asyncio.gather(*[store.put(*item) for item in blocks.items()])
        answers = await asyncio.gather(*[store.get(name, block_size) for name in blocks])
        assert answers == list(blocks.values())

    run(open_store, test)


@every_store
def test_many_blocks_at_once(open_store: OpenStore) -> None:
    blocks = make_blocks(200, BlockSize.SMALL) | make_blocks(12, BlockSize.LARGE)

    async def test(store: BlockWriter) -> None:
        if not isinstance(store, ManyWriter):
            pytest.skip("it takes one by one")
        items = list(blocks.items())
        # Some of them twice, and then all again.
        await asyncio.gather(store.put_all(items[:120]), store.put_all(items[80:]))
        await store.put_all(items)
        await store.put_all([])
        for name, block in items[::20]:
            assert await store.get(name, BlockSize(len(block))) == block
        assert isinstance(store, BlockFinder)
        assert await store.find(list(blocks)) == [True] * len(blocks)

    run(open_store, test)


@every_store
def test_a_block_can_be_got_as_soon_as_its_put_is_done(open_store: OpenStore) -> None:
    blocks = make_blocks(200, BlockSize.SMALL)

    async def test(store: BlockWriter) -> None:
        async def put_and_get(reference: Reference, block: bytes) -> bytes:
            await store.put(reference, block)
            return await store.get(reference, BlockSize.SMALL)

        answers = await asyncio.gather(*[put_and_get(*item) for item in blocks.items()])
        assert answers == list(blocks.values())

    run(open_store, test)


@every_store
def test_missing_and_present_blocks_do_not_mix(open_store: OpenStore) -> None:
    blocks = make_blocks(100, BlockSize.SMALL)
    present = dict(list(blocks.items())[::2])

    async def test(store: BlockWriter) -> None:
        await asyncio.gather(*[store.put(*item) for item in present.items()])
        answers = await asyncio.gather(
            *[store.get(reference, BlockSize.SMALL) for reference in blocks],
            return_exceptions=True,
        )
        for (reference, block), answer in zip(blocks.items(), answers, strict=True):
            if reference in present:
                assert answer == block
            else:
                assert isinstance(answer, BlockNotFound)
                assert answer.reference == reference

    run(open_store, test)


@every_store
def test_a_cancelled_request_disturbs_no_other(open_store: OpenStore) -> None:
    blocks = make_blocks(100, BlockSize.SMALL)

    async def test(store: BlockWriter) -> None:
        puts = [asyncio.ensure_future(store.put(*item)) for item in blocks.items()]
        for put in puts[::3]:
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
        # A put that was cancelled may have been done or not; now all are.
        await asyncio.gather(*[store.put(*item) for item in blocks.items()])
        gets = [asyncio.ensure_future(store.get(name, BlockSize.SMALL)) for name in blocks]
        for get in gets[::3]:
            get.cancel()
        answers = await asyncio.gather(*gets, return_exceptions=True)
        for index, block in enumerate(blocks.values()):
            if index % 3 == 0:
                assert isinstance(answers[index], asyncio.CancelledError)
            else:
                assert answers[index] == block
        again = [await store.get(reference, BlockSize.SMALL) for reference in blocks]
        assert again == list(blocks.values())

    run(open_store, test)


@every_store
@both_sizes
@pytest.mark.parametrize("length", [0, 1, 20_000, 3_000_001])
def test_whole_content(open_store: OpenStore, block_size: BlockSize, length: int) -> None:
    content = random.Random(length).randbytes(length)
    blocks = length // block_size
    if blocks > 1024 and open_store in [STORES[name] for name in ONE_BY_ONE]:
        pytest.skip("it is asked for each block by itself")

    async def test(store: BlockWriter) -> None:
        capability = await put_content(store, content, block_size=block_size)
        assert await get_content(store, capability) == content
        middle = await read_content(store, capability, length // 3, length // 3)
        assert middle == content[length // 3 : length // 3 + length // 3]

    run(open_store, test)


@every_store
def test_contents_side_by_side(open_store: OpenStore) -> None:
    contents = [random.Random(number).randbytes(number * 5000) for number in range(12)]

    async def test(store: BlockWriter) -> None:
        capabilities = await asyncio.gather(*[put_content(store, each) for each in contents])
        decoded = await asyncio.gather(*[get_content(store, each) for each in capabilities])
        assert decoded == contents

    run(open_store, test)

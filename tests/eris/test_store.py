"""The stores of `eris/store.py` that are not under contract, and what the contract leaves open."""

from __future__ import annotations

import asyncio

import pytest

import eris
from eris import (
    BlockNotFound,
    BlockReader,
    BlockSize,
    BlockWriter,
    CorruptBlock,
    ErisError,
    FallbackStore,
    MemoryStore,
    NullStore,
    StoreUnavailable,
    reference_of,
)
from tests.eris.helpers import make_content
from tests.fakes import CorruptingStore, FailingStore, RecordingStore

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE
BLOCK = make_content(1024)
REFERENCE = reference_of(BLOCK)


def test_memory_store_begins_with_blocks() -> None:
    store = MemoryStore([BLOCK, BLOCK, make_content(32768)])
    assert len(store) == 2
    assert REFERENCE in store
    assert bytes(32) not in store
    assert "text" not in store


def test_memory_store_checks_what_it_is_given() -> None:
    async def main() -> None:
        store = MemoryStore()
        with pytest.raises(CorruptBlock) as caught:
            await store.put(REFERENCE, bytes(1024))
        assert caught.value.reference == REFERENCE
        assert len(store) == 0

    asyncio.run(main())


def test_null_store_forgets() -> None:
    async def main() -> None:
        store = NullStore()
        assert isinstance(store, BlockWriter)
        await store.put(REFERENCE, BLOCK)
        with pytest.raises(BlockNotFound) as caught:
            await store.get(REFERENCE, SMALL)
        assert caught.value.reference == REFERENCE
        content = make_content(100_000)
        capability = await eris.put_content(store, content)
        assert capability == eris.encode(content)[0]

    asyncio.run(main())


def test_fallback_asks_in_order_until_one_has_it() -> None:
    async def main() -> None:
        without, with_it, unasked = (
            RecordingStore(store) for store in (MemoryStore(), MemoryStore([BLOCK]), MemoryStore())
        )
        store = FallbackStore([without, with_it, unasked])
        assert isinstance(store, BlockReader)
        assert not isinstance(store, BlockWriter)
        assert await store.get(REFERENCE, SMALL) == BLOCK
        assert (without.gets, with_it.gets, unasked.gets) == ([REFERENCE], [REFERENCE], [])

    asyncio.run(main())


def unavailable() -> BlockReader:
    return FailingStore(MemoryStore([BLOCK]), 1, StoreUnavailable("down"))


def wrong_size() -> BlockReader:
    return MemoryStore([BLOCK])


@pytest.mark.parametrize("position", [0, 1])
def test_fallback_passes_over_what_fails(position: int) -> None:
    async def main() -> None:
        stores: list[BlockReader] = [MemoryStore([BLOCK])]
        stores.insert(position, unavailable())
        assert await FallbackStore(stores).get(REFERENCE, SMALL) == BLOCK
        large = make_content(32768)
        confused = FailingStore(MemoryStore(), 1, CorruptBlock(REFERENCE, size=1, expected_size=2))
        stores = [MemoryStore([large])]
        stores.insert(position, confused)
        assert await FallbackStore(stores).get(reference_of(large), LARGE) == large

    asyncio.run(main())


def test_fallback_tells_the_failure_that_leaves_hope() -> None:
    """Not found is said only if every store was asked and said so."""

    async def main() -> None:
        async def failure(*stores: BlockReader) -> type[ErisError]:
            with pytest.raises(ErisError) as caught:
                await FallbackStore(stores).get(REFERENCE, SMALL)
            return type(caught.value)

        empty = MemoryStore()
        assert await failure(empty) is BlockNotFound
        assert await failure(empty, empty) is BlockNotFound
        assert await failure(unavailable()) is StoreUnavailable
        assert await failure(empty, unavailable()) is StoreUnavailable
        assert await failure(unavailable(), empty) is StoreUnavailable
        with pytest.raises(CorruptBlock):
            await FallbackStore([MemoryStore(), wrong_size()]).get(REFERENCE, LARGE)
        with pytest.raises(CorruptBlock):
            await FallbackStore([wrong_size(), MemoryStore()]).get(REFERENCE, LARGE)

    asyncio.run(main())


def test_fallback_does_not_hide_other_errors() -> None:
    async def main() -> None:
        store = FallbackStore(
            [FailingStore(MemoryStore(), 1, OSError("odd")), MemoryStore([BLOCK])]
        )
        with pytest.raises(OSError, match="odd"):
            await store.get(REFERENCE, SMALL)

    asyncio.run(main())


def test_fallback_over_no_store_is_refused() -> None:
    with pytest.raises(ValueError, match="no store"):
        FallbackStore([])


def test_content_spread_over_stores() -> None:
    content = make_content(200_000)
    capability, blocks = eris.encode(content, block_size=SMALL)
    halves = [MemoryStore(list(blocks.values())[half::2]) for half in (0, 1)]
    assert asyncio.run(eris.get_content(FallbackStore(halves), capability)) == content


def test_a_reader_does_not_trust_the_store() -> None:
    store = CorruptingStore(MemoryStore(), {REFERENCE: bytes(1024)})
    pair = eris.ReferenceKeyPair(REFERENCE, eris.Key(bytes(32)))
    with pytest.raises(CorruptBlock):
        asyncio.run(eris.get_content(store, eris.ReadCapability(SMALL, 0, pair)))

"""The stores of `eris/store.py` that are not under contract, and what the contract leaves open."""

from __future__ import annotations

import asyncio

import pytest

import eris
from eris import (
    BlockNotFound,
    BlockSize,
    BlockWriter,
    CorruptBlock,
    MemoryStore,
    NullStore,
    reference_of,
)
from tests.eris.helpers import make_content
from tests.fakes import CorruptingStore

SMALL = BlockSize.SMALL
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


def test_a_reader_does_not_trust_the_store() -> None:
    store = CorruptingStore(MemoryStore(), {REFERENCE: bytes(1024)})
    pair = eris.ReferenceKeyPair(REFERENCE, eris.Key(bytes(32)))
    with pytest.raises(CorruptBlock):
        asyncio.run(eris.get_content(store, eris.ReadCapability(SMALL, 0, pair)))

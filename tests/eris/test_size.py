"""The size of a content, found from the blocks at the right edge of its tree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import (
    BlockNotFound,
    BlockSize,
    MemoryStore,
    ReadCapability,
    StoreUnavailable,
    content_sizes,
    put_content,
    stream_sizes,
)
from eris.encode import encode
from eris.size import SizeFinder
from tests.eris.helpers import make_content, run_clean
from tests.fakes import FailingStore, LossyStore, RecordingStore, ShuffledStore

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE
# On both sides of where a leaf, a node or a level begins.
LENGTHS = [0, 1, 1023, 1024, 16 * 1024 - 1, 16 * 1024, 17 * 1024, 256 * 1024, 300_000]


@pytest.mark.parametrize("block_size", [SMALL, LARGE])
@pytest.mark.parametrize("length", LENGTHS)
def test_one_block_a_level_tells_it(length: int, block_size: BlockSize) -> None:
    capability, blocks = encode(make_content(length), block_size=block_size)
    finder = SizeFinder(capability)
    asked = 0
    while (reference := finder.wanted) is not None:
        assert finder.size is None
        finder.receive(blocks[reference])
        asked += 1
    assert finder.size == length
    assert asked == capability.level + 1


def test_nothing_is_taken_that_is_not_wanted() -> None:
    capability, blocks = encode(b"little")
    finder = SizeFinder(capability)
    (block,) = blocks.values()
    finder.receive(block)
    with pytest.raises(ValueError, match="no block is wanted"):
        finder.receive(block)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(LENGTHS), max_size=20), st.integers(1, 12), st.integers())
def test_many_come_in_the_order_given(lengths: list[int], window: int, seed: int) -> None:
    async def run() -> None:
        memory = MemoryStore()
        capabilities = [await put_content(memory, make_content(length)) for length in lengths]
        store = RecordingStore(ShuffledStore(memory, seed))
        assert await content_sizes(store, capabilities, window=window) == lengths
        assert store.most_active <= window
        # Of equal contents one is enough.
        assert len(store.gets) == sum(one.level + 1 for one in set(capabilities))

    run_clean(run())


async def _some(store: MemoryStore, count: int) -> list[ReadCapability]:
    return [await put_content(store, make_content(20_000 + number)) for number in range(count)]


def test_many_are_asked_for_at_once() -> None:
    async def run() -> None:
        memory = MemoryStore()
        capabilities = await _some(memory, 40)
        store = RecordingStore(ShuffledStore(memory, 1))
        await content_sizes(store, capabilities, window=40)
        assert store.most_active == 40

    run_clean(run())


def test_what_fails_leaves_nothing_behind() -> None:
    async def run() -> None:
        memory = MemoryStore()
        capabilities = await _some(memory, 10)
        failing = FailingStore(memory, 5, StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable):
            await content_sizes(failing, capabilities)
        lossy = LossyStore(memory, {capabilities[3].root.reference})
        with pytest.raises(BlockNotFound):
            await content_sizes(lossy, capabilities)
        found = stream_sizes(memory, capabilities)
        await anext(found)
        await found.aclose()

    run_clean(run())


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 0"):
        run_clean(content_sizes(MemoryStore(), [], window=0))

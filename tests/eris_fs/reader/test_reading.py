"""Many readers at once, in any order, of trees of both kinds, from stores with faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import (
    BlockNotFound,
    BlockReader,
    BlockSize,
    BlockWriter,
    ContentError,
    CorruptBlock,
    ErisError,
    MemoryStore,
    Reference,
    StoreUnavailable,
    put_content,
    read_content,
)
from eris_fs import ContentReader, Path, RegularFile, TreeReader, load_tree
from tests.eris.helpers import make_content, run_clean
from tests.eris_fs.reader.sample import KINDS, sample
from tests.eris_fs.stores import BackwardStore, SilentStore
from tests.eris_fs.trees import bomb
from tests.fakes import CorruptingStore, FailingStore, LossyStore, RecordingStore, ShuffledStore

MIB = 1024 * 1024
every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True)
class Read:
    """One read of a file of the sample tree; places are in thousandths of the file."""

    file: int
    place: int
    length: int

    def within(self, files: dict[str, bytes]) -> tuple[str, int]:
        path = sorted(files)[self.file % len(files)]
        return path, len(files[path]) * self.place // 1000


one_read = st.builds(
    Read,
    st.integers(0, 23),
    st.integers(0, 1050),
    st.sampled_from([0, 1, 4096, 40_000, 200_000, MIB, 1 << 50]),
)
# Some read here and there, some on and on.
one_reader = st.one_of(
    st.lists(one_read, max_size=8),
    st.builds(
        lambda file, begin: [Read(file, place, 150_000) for place in range(begin, 1000, 50)],
        st.sampled_from([10, 11, 22, 23]),
        st.integers(0, 500),
    ),
)


def network(store: BlockWriter, seed: int) -> BlockWriter:
    return BackwardStore(store) if seed % 2 else ShuffledStore(store, seed)


@every_kind
@settings(max_examples=12, deadline=None)
@given(
    readers=st.lists(one_reader, min_size=1, max_size=8),
    cache=st.sampled_from([4, 64]),
    seed=st.integers(0, 99),
)
def test_what_is_read_is_what_is_there(
    kind: str, readers: list[list[Read]], cache: int, seed: int
) -> None:
    found = sample()

    async def run() -> None:
        store = network(found.store, seed)
        tree = found.trees[kind]
        async with await TreeReader.open(store, tree, cache_size=cache * MIB) as reader:

            async def go_on(reads: list[Read]) -> None:
                for one in reads:
                    path, offset = one.within(found.files)
                    content = await reader.read(path, offset, one.length)
                    assert content == found.files[path][offset : offset + one.length]

            await asyncio.gather(*map(go_on, readers))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_clean(run())


@pytest.mark.parametrize("kind", ["plain", "small blocks"])
@settings(max_examples=25, deadline=None)
@given(
    readers=st.lists(one_reader, min_size=1, max_size=4),
    lost=st.sets(st.integers(0, 10_000), min_size=1, max_size=40),
    is_corrupt=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_read_fails_only_for_blocks_of_its_own(
    kind: str, readers: list[list[Read]], lost: set[int], is_corrupt: bool, seed: int
) -> None:
    found = sample()
    references = sorted(found.store._blocks)
    missing = {references[number * 7 % len(references)] for number in lost}
    missing -= {found.trees[kind].root.reference}
    error = CorruptBlock if is_corrupt else BlockNotFound

    async def run() -> None:
        tree = await load_tree(found.store, found.trees[kind])
        store: BlockWriter = network(found.store, seed)
        if is_corrupt:
            store = CorruptingStore(store, dict.fromkeys(missing, bytes(1024)))
        else:
            store = LossyStore(store, missing)
        async with TreeReader(store, tree) as reader:

            async def go_on(reads: list[Read]) -> None:
                for one in reads:
                    path, offset = one.within(found.files)
                    entry = tree[tuple(path.split("/"))]
                    assert isinstance(entry, RegularFile)
                    expected = await outcome(
                        read_content(store, entry.capability, offset, min(one.length, 4 * MIB))
                    )
                    content = await outcome(reader.read(path, offset, min(one.length, 4 * MIB)))
                    if isinstance(expected, bytes):
                        assert content == expected
                    else:
                        assert isinstance(content, error)
                        assert f"while reading {path}" in content.__notes__

            await asyncio.gather(*map(go_on, readers))

    run_clean(run())


async def outcome(reading: Awaitable[bytes]) -> bytes | ErisError:
    try:
        return await reading
    except (BlockNotFound, ContentError) as error:
        return error


@every_kind
@settings(max_examples=8, deadline=None)
@given(nth=st.integers(1, 200), cancels=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 40))))
def test_what_failed_or_was_cancelled_is_read_again(
    kind: str, nth: int, cancels: list[tuple[int, int]]
) -> None:
    found = sample()

    async def run() -> None:
        tree = await load_tree(found.store, found.trees[kind])
        away = StoreUnavailable("away for a moment")
        store = FailingStore(BackwardStore(found.store), nth, away)
        async with TreeReader(store, tree) as reader:

            async def go_on(seed: int) -> None:
                source = random.Random(seed)
                for _ in range(4):
                    path = source.choice(sorted(found.files))
                    content = found.files[path]
                    offset = source.randrange(len(content) + 1)
                    assert await reader.read(path, offset, 70_000) == content[offset:][:70_000]

            tasks = [asyncio.ensure_future(go_on(seed)) for seed in range(8)]
            for which, turns in cancels:
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks[which].cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled = {which for which, _ in cancels}
            for number, end in enumerate(ends):
                assert end is None or isinstance(end, StoreUnavailable) or number in cancelled
            for seed in range(4):
                # It may not have failed yet, and does so once.
                with suppress(StoreUnavailable):
                    await go_on(seed)
                await go_on(seed)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_clean(run())


@every_kind
def test_a_store_that_is_silent_holds_up_only_who_asks_it(kind: str) -> None:
    found = sample()
    path, content = "noise/2600000", found.files["noise/2600000"]

    async def run() -> None:
        tree = await load_tree(found.store, found.trees[kind])
        store = SilentStore(found.store, 20)
        async with TreeReader(store, tree) as reader:
            first = await reader.read(path, 0, 4096)
            waiting = [
                asyncio.ensure_future(reader.read(path, at, MIB)) for at in (MIB, MIB, 2 * MIB)
            ]
            await asyncio.wait_for(store.stuck.wait(), 60)
            assert await asyncio.wait_for(reader.read(path, 0, 4096), 60) == first == content[:4096]
            waiting[0].cancel()
            closing = asyncio.ensure_future(reader.aclose())
            ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
            assert isinstance(ends[0], asyncio.CancelledError)
            assert any(isinstance(end, StoreUnavailable) for end in ends[1:])
            await asyncio.wait_for(closing, 60)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run_clean(run())


def count_gets(content: bytes, work: Callable[[ContentReader], Awaitable[None]]) -> list[Reference]:
    """What is asked of a store for some reads of a content."""

    async def run() -> list[Reference]:
        memory = MemoryStore()
        capability = await put_content(memory, content, block_size=BlockSize.LARGE)
        store = RecordingStore(ShuffledStore(memory, 1))
        async with ContentReader(store, capability) as reader:
            await work(reader)
        return store.gets

    return run_clean(run())


def test_reading_in_order_gets_every_block_once() -> None:
    content = make_content(6 * MIB + 5)

    async def work(reader: ContentReader) -> None:
        for at in range(0, len(content), 50_000):
            assert await reader.read(at, 50_000) == content[at : at + 50_000]

    gets = count_gets(content, work)
    assert len(set(gets)) == len(gets) == 1 + 6 * 32 + 1


def test_reading_at_random_gets_one_block_a_read() -> None:
    content = make_content(20 * MIB)

    async def work(reader: ContentReader) -> None:
        source = random.Random(3)
        for _ in range(60):
            at = source.randrange(639) * 32768 + 100
            assert await reader.read(at, 4096) == content[at : at + 4096]

    # Beside the two inner nodes and the root.
    assert len(count_gets(content, work)) <= 60 + 3


def test_many_readers_get_every_block_once() -> None:
    content = make_content(2 * MIB)

    async def work(reader: ContentReader) -> None:
        whole = await asyncio.gather(*(reader.read(0, len(content)) for _ in range(10)))
        assert whole == [content] * 10

    gets = count_gets(content, work)
    assert len(set(gets)) == len(gets)


def test_the_first_read_of_a_directory_brings_its_small_files() -> None:
    async def run() -> None:
        memory = MemoryStore()
        contents = {f"{number:03}": make_content(number * 20) for number in range(100)}
        tree: dict[Path, RegularFile] = {
            ("d", name): RegularFile(await put_content(memory, content))
            for name, content in contents.items()
        }
        store = RecordingStore(memory)
        async with TreeReader(store, tree) as reader:
            assert await reader.read("d/050", 0, MIB) == contents["050"]
            # What was asked for first is what was read.
            assert store.gets[0] == tree["d", "050"].capability.root.reference
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not store.active
            asked = len(store.gets)
            for name, content in contents.items():
                assert await reader.read(("d", name), 0, MIB) == content
            assert len(store.gets) == asked

    run_clean(run())


def test_what_does_not_fit_is_dropped_and_read_again() -> None:
    content = make_content(9 * MIB - 5)

    async def run() -> None:
        memory = MemoryStore()
        capability = await put_content(memory, content)
        store = RecordingStore(memory)
        async with ContentReader(store, capability, cache_size=4 * MIB) as reader:
            for at in range(0, 9 * MIB, MIB):
                await reader.read(at, MIB)
            asked = len(store.gets)
            assert await reader.read(8 * MIB, MIB) == content[8 * MIB :]
            assert len(store.gets) == asked
            assert await reader.read(0, MIB) == content[:MIB]
            assert len(store.gets) == asked + 32

    run_clean(run())


def test_a_content_without_end_takes_no_memory() -> None:
    async def run() -> None:
        capability, blocks = bomb(60)
        store: BlockReader = MemoryStore(blocks)
        async with ContentReader(store, capability) as reader:
            assert await reader.read(1 << 200, 10_000) == bytes(10_000)
            with pytest.raises(ContentError):
                await reader.size()

    run_clean(run())

"""The references of whole contents, whatever of them is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

import eris_fs
from eris import BlockSize, Key, MemoryStore, ReadCapability, Reference, ReferenceKeyPair
from eris.crypto import encrypt_node
from eris.errors import ContentError
from eris.store import BlockReader, BlockWriter
from eris.transfer import put_content
from tests.fakes import CorruptingStore, LossyStore, RecordingStore, ShuffledStore


async def walked(
    store: BlockReader, capability: ReadCapability
) -> tuple[list[Reference], dict[BlockSize, set[Reference]], int]:
    """All references in order, the same by size, and how many nodes could not be looked into."""
    walk = eris_fs.ReferenceWalk(store)
    found: list[Reference] = []
    by_size: dict[BlockSize, set[Reference]] = {size: set() for size in BlockSize}
    async with aclosing(walk.content(capability)) as batches:
        async for batch in batches:
            found += [reference for reference, _ in batch]
            for reference, size in batch:
                by_size[size].add(reference)
    return found, by_size, walk.unknown


Make = Callable[[BlockWriter, Path], Awaitable[ReadCapability]]


def content_of(size: int, block_size: BlockSize) -> Make:
    async def make(store: BlockWriter, directory: Path) -> ReadCapability:
        pieces = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
        return await put_content(store, pieces, block_size=block_size)

    return make


def fill(directory: Path) -> None:
    for number in range(40):
        content = number.to_bytes(2, "big") * (50 * number**2)
        (directory / f"{number}").write_bytes(content)
    (directory / "again").write_bytes((directory / "39").read_bytes())
    (directory / "link").symlink_to("39")


async def standard_tree(store: BlockWriter, directory: Path) -> ReadCapability:
    fill(directory)
    return await eris_fs.put_tree(store, directory)


async def packed_tree(store: BlockWriter, directory: Path) -> ReadCapability:
    fill(directory)
    return await eris_fs.put_packed_tree(store, directory, level=1)


async def only_looks_like_a_tree(store: BlockWriter, directory: Path) -> ReadCapability:
    return await put_content(store, eris_fs.MAGIC + bytes(200_000))


@pytest.mark.parametrize(
    "make",
    [
        content_of(10, BlockSize.SMALL),
        content_of(300_000, BlockSize.SMALL),
        content_of(3_000_000, BlockSize.LARGE),
        standard_tree,
        packed_tree,
        only_looks_like_a_tree,
    ],
    ids=["one block", "small blocks", "large blocks", "tree", "packed tree", "looks like a tree"],
)
def test_every_block_of_a_content_comes_out_its_root_first(make: Make, tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        recording = RecordingStore(store)
        capability = await make(recording, tmp_path)
        found, by_size, unknown = await walked(ShuffledStore(store, 1), capability)
        assert found[0] == capability.root.reference
        assert unknown == 0
        assert set(found) == set(recording.puts)
        for size, references in by_size.items():
            for reference in references:
                assert len(await store.get(reference, size)) == size

    asyncio.run(run())


def test_no_leaf_is_fetched_but_those_that_tell_what_it_is() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await content_of(1_000_000, BlockSize.SMALL)(store, Path())
        recording = RecordingStore(store)
        found, _, _ = await walked(recording, capability)
        assert len(recording.gets) < len(found) / 10

    asyncio.run(run())


def test_what_is_below_a_missing_node_is_counted_as_unknown() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await content_of(300_000, BlockSize.SMALL)(store, Path())
        recording = RecordingStore(store)
        whole, _, _ = await walked(recording, capability)
        [lost, *_] = [name for name in recording.gets if name != capability.root.reference]
        found, _, unknown = await walked(LossyStore(store, [lost]), capability)
        assert lost in found
        assert set(found) < set(whole)
        assert unknown == 1
        root = capability.root.reference
        found, _, unknown = await walked(LossyStore(store, [root]), capability)
        assert (found, unknown > 0) == ([root], True)

    asyncio.run(run())


def test_of_a_tree_without_its_index_only_the_index_is_known(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await standard_tree(store, tmp_path)
        walk = eris_fs.ReferenceWalk(store)
        async with aclosing(walk.content(capability)) as batches:
            index = [one async for batch in batches for one in batch][:2]
        lossy = LossyStore(store, [reference for reference, _ in index])
        found, _, unknown = await walked(lossy, capability)
        assert found[0] == capability.root.reference
        assert unknown > 0

    asyncio.run(run())


def test_a_damaged_node_is_an_error() -> None:
    async def run() -> None:
        store = MemoryStore()
        capability = await content_of(300_000, BlockSize.SMALL)(store, Path())
        with pytest.raises(ContentError):
            await walked(
                CorruptingStore(store, {capability.root.reference: bytes(1024)}), capability
            )

    asyncio.run(run())


@pytest.mark.parametrize("levels", [1, 40, 255])
def test_a_few_blocks_that_stand_for_endless_content(levels: int) -> None:
    size = BlockSize.SMALL
    reference, key, block = encrypt_node(b"\x80".ljust(size, b"\0"), 0)
    blocks = [block]
    for level in range(1, levels + 1):
        reference, key, block = encrypt_node((reference + key) * size.arity, level)
        blocks.append(block)
    root = ReferenceKeyPair(Reference(reference), Key(key))

    async def run() -> None:
        recording = RecordingStore(MemoryStore(blocks))
        walk = eris_fs.ReferenceWalk(recording)
        async with aclosing(walk.content(ReadCapability(size, levels, root))) as batches:
            found = {reference async for batch in batches for reference, _ in batch}
        assert len(found) == levels + 1
        assert len(recording.gets) < 10 * (levels + 1)

    asyncio.run(run())


def test_no_more_is_fetched_than_whoever_takes_it_keeps_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eris_fs.references._BATCH", 32)
    monkeypatch.setattr("eris_fs.references.DEFAULT_WINDOW", 4)

    async def run() -> None:
        store = MemoryStore()
        capability = await content_of(1_000_000, BlockSize.SMALL)(store, Path())
        recording = RecordingStore(store)
        walk = eris_fs.ReferenceWalk(recording)
        async with aclosing(walk.content(capability)) as batches:
            first = await anext(batches)
            assert 32 <= len(first) < 64
        assert recording.most_active <= 4
        assert len(recording.gets) < 16
        assert recording.active == 0

    asyncio.run(run())

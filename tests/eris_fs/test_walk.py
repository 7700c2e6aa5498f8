"""Which blocks contents are made of: all of them, and no more is fetched than need be."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from eris import BlockSize, MemoryStore, Reference, put_content
from eris_fs import contents_of, load_tree, put_packed_tree, put_tree, walk_contents
from eris_fs.walk import FoundBlock


class Counting(MemoryStore):
    """Counts what is fetched, and how much at once."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Reference] = []

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.got.append(reference)
        return await super().get(reference, block_size)


def content(size: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in range(size // 8))


async def found_in(store: MemoryStore, *capabilities: object) -> list[FoundBlock]:
    async with aclosing(walk_contents(store, capabilities)) as runs:  # type: ignore[arg-type]
        return [block async for run in runs for block in run]


@pytest.mark.parametrize("size", [0, 1000, 16_000, 300_000])
def test_every_block_is_found_and_only_nodes_are_fetched(size: int) -> None:
    async def walk() -> None:
        store = Counting()
        capability = await put_content(store, content(size), block_size=BlockSize.SMALL)
        found = await found_in(store, capability)
        assert {block.reference for block in found} == set(store._blocks)
        leaves = size // 1024 + 1
        assert len(store.got) == len(store) - leaves
        for block in found:
            assert block.block is None or store._blocks[block.reference] == block.block
        assert sum(block.block is not None for block in found) == len(store.got)

    asyncio.run(walk())


def test_what_a_content_repeats_is_walked_once() -> None:
    async def walk() -> None:
        store = Counting()
        capability = await put_content(store, bytes(4 << 20), block_size=BlockSize.SMALL)
        found = await found_in(store, capability)
        assert {block.reference for block in found} == set(store._blocks)
        assert len(found) < 200

    asyncio.run(walk())


@pytest.mark.parametrize("packed", [False, True])
def test_the_contents_of_a_tree_are_all_its_blocks(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "large").write_bytes(content(200_000))
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "same").write_bytes(b"small")

    async def walk() -> None:
        store = Counting()
        put = put_packed_tree if packed else put_tree
        capability = await put(store, tmp_path)
        tree = await load_tree(store, capability)
        found = await found_in(store, capability, *contents_of(tree))
        assert {block.reference for block in found} == set(store._blocks)

    asyncio.run(walk())

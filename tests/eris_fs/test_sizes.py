"""The sizes of files of trees: found many at a time, whatever is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path as SystemPath

from eris import BlockNotFound, BlockSize, MemoryStore, Reference
from eris_fs import PackedTree, RegularFile, find_sizes, load_tree, put_packed_tree, put_tree
from tests.eris_fs.trees import File, Link, Node, lay_out

SIZES = {"none": 0, "few": 5, "many": 20_000, "more": 700_000, "same": 20_000}


class Waiting(MemoryStore):
    """Answers nothing before so many have been asked: whoever asks one by one waits for ever."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number
        self._all_there = asyncio.Event()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self._left -= 1
        if self._left <= 0:
            self._all_there.set()
        await self._all_there.wait()
        return await super().get(reference, block_size)


def files() -> dict[str, Node]:
    return {**{name: File(b"x" * size) for name, size in SIZES.items()}, "link": Link("x")}


def test_all_are_asked_for_together(tmp_path: SystemPath) -> None:
    async def run() -> None:
        lay_out(files(), tmp_path / "tree")
        plain = MemoryStore()
        capability = await put_tree(plain, tmp_path / "tree")
        tree = await load_tree(plain, capability)
        # Equal contents are asked for once.
        store = Waiting(len(SIZES) - 1)
        await put_tree(store, tmp_path / "tree")
        found = await asyncio.wait_for(find_sizes(store, tree, tree), 30)
        assert {path[0]: size for path, size in found.sizes.items()} == SIZES
        assert not found.failures

    asyncio.run(run())


def test_a_packed_tree_has_them_itself(tmp_path: SystemPath) -> None:
    async def run() -> None:
        lay_out(files(), tmp_path / "tree")
        store = MemoryStore()
        tree = await load_tree(store, await put_packed_tree(store, tmp_path / "tree", level=1))
        assert isinstance(tree, PackedTree)
        found = await find_sizes(MemoryStore(), tree, tree)
        assert {path[0]: size for path, size in found.sizes.items()} == SIZES

    asyncio.run(run())


def test_what_is_missing_stops_nothing_else(tmp_path: SystemPath) -> None:
    async def run() -> None:
        lay_out(files(), tmp_path / "tree")
        store, lacking = MemoryStore(), MemoryStore()
        tree = await load_tree(store, await put_tree(store, tmp_path / "tree"))
        entry = tree["few",]
        assert isinstance(entry, RegularFile)
        reference, size = entry.capability.root.reference, entry.capability.block_size
        await lacking.put(reference, await store.get(reference, size))
        found = await find_sizes(lacking, tree, tree)
        assert found.sizes == {("few",): 5}
        assert {path[0] for path in found.failures} == {"none", "many", "more", "same"}
        assert all(isinstance(error, BlockNotFound) for error in found.failures.values())

    asyncio.run(run())

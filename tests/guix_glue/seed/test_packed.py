"""Packed trees: what a publisher made of an item is made again out of its files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference
from eris.store import MemoryStore
from eris.transfer import get_content
from eris_fs import get_tree, load_tree, put_packed_tree, put_tree
from guix_glue.kept.public_items import item_mark
from guix_glue.seed.files import OpenFiles
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.made import MadeBlocks
from guix_glue.seed.making import Maker
from guix_glue.seed.packed_items import PackedItems
from guix_glue.seed.packing import Packing
from guix_glue.seed.packs import read_packs
from guix_glue.seed.trees import SeedTree
from tests.guix_glue.seed.support import made, make_tree, opened_index

HASH = "a" * 32
NAR = b"\1" * 32
SIZES = (0, 1, 5000, 40_000, 70_000, 300_000, 9 * 1024 * 1024)


class OutOfFiles:
    """A store that has what a seed makes."""

    def __init__(self, maker: Maker, *, near: bool = True) -> None:
        self._maker = maker
        self._near = near

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        (block,) = self._maker.make([reference], near=self._near)
        found = block if block is None or isinstance(block, bytes) else block.make()
        if found is None:
            raise BlockNotFound(reference)
        return found


def item(tmp_path: Path, sizes: tuple[int, ...] = SIZES) -> Path:
    root = make_tree(tmp_path / f"{HASH}-item", sizes)
    # Something that gets smaller, and something that is there twice.
    (root / "text").write_text("a line of text\n" * 20_000)
    (root / "again").write_text("a line of text\n" * 20_000)
    return root


@contextmanager
def seeding(
    tmp_path: Path, root: Path, capability: ReadCapability, store: Store
) -> Iterator[tuple[Maker, list[Mapping[Reference, bytes]], PackedItems, SeedTree]]:
    """A maker that knows how an item was packed, and the packs that it made."""
    packs: list[Mapping[Reference, bytes]] = []
    tree = SeedTree(str(root), NAR)
    urns = {item_mark(HASH, NAR): capability.to_bytes()}
    with opened_index(tmp_path / "index") as index:
        items = PackedItems(index, store, lambda: urns)
        asyncio.run(items.update([tree]))
        maker = Maker(lambda: index.view, MadeBlocks(tmp_path / "index"), on_pack=packs.append)
        maker.offer([str(root)])
        try:
            yield maker, packs, items, tree
        finally:
            maker.close()


class Store(MemoryStore):
    """One whose blocks can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[bytes, bytes] = {}

    async def put(self, reference: Reference, block: bytes) -> None:
        self.blocks[reference] = block

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if reference not in self.blocks:
            raise BlockNotFound(reference)
        return self.blocks[reference]


def packed(root: Path, level: int = 3) -> tuple[ReadCapability, Store]:
    store = Store()
    return asyncio.run(put_packed_tree(store, str(root), level=level)), store


def test_a_packed_tree_is_decoded_out_of_its_files(tmp_path: Path) -> None:
    root = item(tmp_path)
    capability, store = packed(root)
    with seeding(tmp_path, root, capability, store) as (maker, packs, _, _):

        async def decode() -> None:
            source = OutOfFiles(maker)
            await get_tree(source, await load_tree(source, capability), tmp_path / "out")

        asyncio.run(decode())
        # Each pack was made once, and is what was stored.
        assert len(packs) == len({frozenset(pack) for pack in packs})
        assert all(store.blocks[one] == pack[one] for pack in packs for one in pack)
    assert os.system(f"diff -r --no-dereference {root} {tmp_path / 'out'}") == 0


def test_packs_are_for_those_who_are_near(tmp_path: Path) -> None:
    root = item(tmp_path, (40_000,))
    capability, store = packed(root)
    with seeding(tmp_path, root, capability, store) as (maker, packs, _, _):
        tree = asyncio.run(load_tree(OutOfFiles(maker, near=False), capability))
        pack = tree.packs[0]  # type: ignore[attr-defined]
        piece = next(pack.pieces()).root.reference
        assert maker.make([piece], near=False) == [None]
        assert maker.find([piece], near=False) == [False]
        assert not packs
        assert maker.find([piece], near=True) == [True]
        assert made(maker, piece) == store.blocks[piece]


def test_a_file_that_changed_makes_no_pack(tmp_path: Path) -> None:
    root = item(tmp_path, (40_000,))
    capability, store = packed(root)
    with seeding(tmp_path, root, capability, store) as (maker, _, _, _):
        (root / "d0" / "f40000").write_bytes(os.urandom(40_000))
        tree = asyncio.run(load_tree(OutOfFiles(maker), capability))
        pieces = [piece for pack in tree.packs for piece in pack.pieces()]  # type: ignore[attr-defined]
        assert [made(maker, piece.root.reference) for piece in pieces].count(None) >= 1


def test_what_is_no_packed_tree_or_of_another_library_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = item(tmp_path, (1000,))
    store = Store()
    standard = asyncio.run(put_tree(store, str(root)))
    with seeding(tmp_path, root, standard, store) as (maker, _, items, tree):
        assert not maker._view().packed
        # Nor is it asked for again.
        store.blocks.clear()
        asyncio.run(items.update([tree]))
    capability, store = packed(root)
    monkeypatch.setattr("guix_glue.seed.packs.writer_name", lambda level: f"zstd 9 level {level}")
    with seeding(tmp_path, root, capability, store) as (maker, _, _, _):
        assert not maker._view().packed


def test_it_survives_a_restart_and_goes_with_its_item(tmp_path: Path) -> None:
    root = item(tmp_path, (1000,))
    capability, store = packed(root)
    with seeding(tmp_path, root, capability, store) as (maker, _, _, _):
        assert list(maker._view().packed) == [str(root)]
    with opened_index(tmp_path / "index") as index:
        assert list(index.view.packed) == [str(root)]
        Indexer(index).keep_only([SeedTree(str(root), NAR)])
        assert list(index.view.packed) == [str(root)]
        Indexer(index).keep_only([SeedTree(str(root), bytes(32))])
        assert not index.view.packed


def test_it_takes_a_part_of_the_time(tmp_path: Path) -> None:
    root = item(tmp_path, (40_000, 9 * 1024 * 1024))
    capability, store = packed(root)
    packs = read_packs(asyncio.run(get_content(store, capability)))
    pauses: list[float] = []
    made_packs: list[object] = []
    # Looks at the clock: before, at the beginning, at the end, for the pause; for each pack.
    times = iter([0.0, 0.0, 3.0, 3.0, 4.0, 6.0, 26.0, 26.0, 27.0])
    packing = Packing(OpenFiles(), made_packs.append, lambda: next(times), pauses.append)
    assert packing.make(str(root), packs, 0, lambda: False)
    assert packing.make(str(root), packs, 1, lambda: False)
    assert pauses == [2.0]
    # The second took twenty seconds: the next would come too late.
    assert packing.make(str(root), packs, 2, lambda: False) is None
    assert len(made_packs) == 2
    # What somebody else has made is not made again.
    times = iter([100.0])
    assert packing.make(str(root), packs, 2, lambda: True) is None

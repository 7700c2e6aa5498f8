"""A seed's index of trees, without a daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eris.capability import ReadCapability
from eris.model import Reference
from eris.store import MemoryStore
from eris_fs import put_tree
from guix_glue.local.archive import nar_hash
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.later import Later
from guix_glue.seed.made import MadeBlocks
from guix_glue.seed.making import Maker
from guix_glue.seed.trees import SeedTree

SIZES = (0, 1, 1000, 1024, 16_383, 16_384, 70_000, 600_000)


def make_tree(root: Path, sizes: Sequence[int] = SIZES) -> Path:
    """A tree with files of these sizes, each of another content, and all other kinds of entries."""
    root.mkdir(parents=True)
    for number, size in enumerate(sizes):
        directory = root / f"d{number % 3}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{size}").write_bytes(content(size, number))
    (root / "d0" / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "d0" / "tool").chmod(0o755)
    (root / "link").symlink_to("d0/tool")
    (root / "empty").mkdir()
    return root


def item_tree(root: Path) -> SeedTree:
    """A tree as an item of a store, which is known by its NarHash."""
    return SeedTree(str(root), nar_hash(str(root))[0])


def content(size: int, number: int) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(number).randbytes(size)


def encoded(root: Path) -> tuple[ReadCapability, dict[bytes, bytes]]:
    """What any encoder makes of a tree: its capability, and all blocks by reference."""
    blocks: dict[bytes, bytes] = {}

    class Store(MemoryStore):
        async def put(self, reference: Reference, block: bytes) -> None:
            blocks[reference] = block
            await super().put(reference, block)

    capability = asyncio.run(put_tree(Store(), str(root)))
    return capability, blocks


@contextmanager
def opened_index(directory: Path) -> Iterator[SeedIndex]:
    """An index, closed afterwards."""
    index = SeedIndex(directory)
    try:
        yield index
    finally:
        index.close()


@contextmanager
def seeding(directory: Path, *roots: Path) -> Iterator[tuple[SeedIndex, Maker]]:
    """An index that has these trees, and what makes their blocks."""
    with opened_index(directory) as index:
        trees = [SeedTree(str(root)) for root in roots]
        Indexer(index).update(trees)
        maker = Maker(lambda: index.view, MadeBlocks(directory))
        maker.offer(tree.root for tree in trees)
        try:
            yield index, maker
        finally:
            maker.close()


def made(maker: Maker, reference: bytes) -> bytes | None:
    """The block that a seed answers with, whether or not it takes long to make."""
    (block,) = maker.make([Reference(reference)], near=True)
    return block.make() if isinstance(block, Later) else block

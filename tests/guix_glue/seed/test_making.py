"""Blocks are made again out of files, and are those that any encoder makes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eris.model import Reference
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.later import Later
from tests.guix_glue.seed.support import (
    content,
    encoded,
    item_tree,
    made,
    make_tree,
    opened_index,
    seeding,
)


def test_every_block_of_a_tree(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    capability, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        assert all(made(maker, reference) == block for reference, block in blocks.items())
        assert maker.find([Reference(one) for one in blocks], near=True) == [True] * len(blocks)
        assert maker.find([Reference(bytes(32))], near=True) == [False]
        assert made(maker, bytes(32)) is None
        # By its first eight bytes it is there; the whole is compared.
        other = capability.root.reference[:31] + bytes([capability.root.reference[31] ^ 1])
        assert made(maker, other) is None


def test_of_a_large_file_the_nodes_are_made_of_kept_pairs(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    # Two nodes of level 1, and one above them.
    (root / "large").write_bytes(content(17 * 1024 * 1024, 0))
    _, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (index, maker):
        os.truncate(root / "large", 16 * 1024 * 1024)
        here = {reference for reference in blocks if made(maker, reference) == blocks[reference]}
        # What is gone of the file is not here; its nodes are.
        assert len(blocks) - 40 < len(here) < len(blocks)
        assert index.view.size < 0.005 * 17 * 1024 * 1024


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_a_tree_that_is_one_entry(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "item"
    if kind == "file":
        root.write_bytes(content(40_000, 0))
    else:
        root.symlink_to("elsewhere")
    _, blocks = encoded(root)
    with opened_index(tmp_path / "index") as index:
        Indexer(index).update([item_tree(root)])
    with seeding(tmp_path / "index") as (_, maker):
        maker.offer([str(root)])
        assert all(made(maker, reference) == block for reference, block in blocks.items())


def test_a_file_that_changed_is_not_here(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    file = root / "d0" / "f70000"
    file.chmod(0o644)
    _, before = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        file.write_bytes(content(70_000, 99))
        _, after = encoded(root)
        changed = before.keys() - after.keys()
        assert changed
        gone = [Reference(one) for one in changed if made(maker, one) is None]
        assert gone
        for reference in before.keys() & after.keys():
            assert made(maker, reference) == before[reference]
        # The file, and the index of the tree with it; FETCH tells so too.
        assert maker.tally.changed == 2
        assert not any(maker.find(gone, near=True))


def test_nothing_leads_out_of_a_tree(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    _, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        outside = tmp_path / "outside"
        (root / "d1").rename(outside)
        (root / "d1").symlink_to(outside)
        lost = [reference for reference in blocks if made(maker, reference) is None]
        # The very same bytes, but by way of a symlink.
        assert lost


def test_what_is_not_offered_is_not_made(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    _, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        # Also of what was made a moment ago.
        assert all(made(maker, reference) for reference in blocks)
        maker.offer([])
        assert not any(made(maker, reference) for reference in blocks)
        assert not any(maker.find([Reference(one) for one in blocks], near=True))


def test_what_is_made_while_its_tree_is_withdrawn_is_not_given(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    blocks = [Reference(one) for one in encoded(root)[1]]
    with seeding(tmp_path / "index", root) as (_, maker):
        under_way = [one for one in maker.make(blocks, near=True) if isinstance(one, Later)]
        assert under_way
        maker.offer([])
        assert not any(one.make() for one in under_way)
        assert not any(maker.find(blocks, near=True))


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Such a number a new file would get.
    with open("/dev/null") as lowest:
        most = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_that_cannot_be_opened_for_a_moment_is_there_afterwards(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    _, blocks = encoded(root)
    with seeding(tmp_path / "index", root) as (_, maker):
        with no_file_can_be_opened():
            assert not all(made(maker, reference) for reference in blocks)
        assert all(made(maker, reference) == block for reference, block in blocks.items())
        assert maker.tally.changed == 0


def test_a_block_of_several_trees_is_made_of_any_that_is_there(tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "a"), make_tree(tmp_path / "b")
    _, blocks = encoded(first)
    with seeding(tmp_path / "index", first, second) as (_, maker):
        maker.offer([str(second)])
        assert all(made(maker, reference) == block for reference, block in blocks.items())

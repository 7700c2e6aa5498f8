"""What differs between two trees, by their indexes, by sizes, and by reading; and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path as SystemPath
from typing import Any

import pytest

from eris import MemoryStore, ReadCapability, Reference
from eris_fs import (
    Change,
    EmptyDirectory,
    Entry,
    Sort,
    Symlink,
    Tree,
    compare,
    contents_of,
    load_tree,
    new_blocks,
    put_packed_tree,
    put_tree,
    settle,
    settle_by_size,
    survey_tree,
)
from tests.eris_fs.trees import File, Link, Node, lay_out

Put = Callable[[MemoryStore, SystemPath], Coroutine[Any, Any, ReadCapability]]

OLD: Mapping[str, Node] = {
    "same": File(b"same"),
    "grown": File(b"x" * 50_000),
    "mode": File(b"mode"),
    "here": File(b"moved" * 10),
    "gone": File(b"gone"),
    "link": Link("same"),
    "kind": File(b"kind"),
    "hollow": {},
    "docs": {"a": File(b"equal"), "b": File(b"equal")},
}
NEW: Mapping[str, Node] = {
    "same": File(b"same"),
    "grown": File(b"x" * 50_000 + b"y"),
    "mode": File(b"mode", executable=True),
    "there": File(b"moved" * 10),
    "come": File(b"come"),
    "link": Link("other"),
    "kind": Link("same"),
    "texts": {"b": File(b"equal"), "z": File(b"equal")},
}
CHANGED = {
    "grown": Sort.CHANGED,
    "gone": Sort.REMOVED,
    "come": Sort.ADDED,
    "link": Sort.CHANGED,
    "kind": Sort.CHANGED,
    "hollow": Sort.REMOVED,
    "mode": Sort.MODE,
    "there": Sort.RENAMED,
    "texts/b": Sort.RENAMED,
    "texts/z": Sort.RENAMED,
}


async def put_packed(store: MemoryStore, root: SystemPath) -> ReadCapability:
    return await put_packed_tree(store, root, level=1)


class Pair:
    """Two trees in one store."""

    def __init__(self, directory: SystemPath, put_old: Put, put_new: Put) -> None:
        self.store = MemoryStore()
        self.old = self._put(directory / "old", OLD, put_old)
        self.new = self._put(directory / "new", NEW, put_new)

    def _put(
        self, root: SystemPath, nodes: Mapping[str, Node], put: Put
    ) -> tuple[ReadCapability, Tree]:
        lay_out(dict(nodes), root)

        async def run() -> tuple[ReadCapability, Tree]:
            capability = await put(self.store, root)
            return capability, await load_tree(self.store, capability)

        return asyncio.run(run())

    def compare(self) -> list[Change]:
        return compare(self.old[1], self.new[1])

    def settled(self) -> list[Change]:
        trees = self.old[1], self.new[1]
        return asyncio.run(settle(self.store, *trees, compare(*trees)))


def sorts(changes: list[Change]) -> dict[str, Sort]:
    assert [change.path for change in changes] == sorted(change.path for change in changes)
    return {"/".join(change.path): change.sort for change in changes}


def test_what_differs(tmp_path: SystemPath) -> None:
    pair = Pair(tmp_path, put_tree, put_tree)
    changes = pair.compare()
    assert sorts(changes) == CHANGED
    before = {"/".join(change.path): change.before for change in changes if change.before}
    # Of two equal ones that with the same name.
    assert before == {"there": ("here",), "texts/b": ("docs", "b"), "texts/z": ("docs", "a")}
    assert [change.path for change in changes if change.changes_mode] == [("mode",)]
    assert not compare(pair.new[1], pair.new[1])
    assert pair.settled() == changes


def test_what_a_packed_index_does_not_tell_is_uncertain(tmp_path: SystemPath) -> None:
    """The small files are in one pack, which is another one now."""
    pair = Pair(tmp_path, put_packed, put_packed)
    found = sorts(pair.compare())
    assert found["same"] is found["mode"] is Sort.UNCERTAIN
    assert found["grown"] is found["link"] is Sort.CHANGED
    assert (found["here"], found["there"]) == (Sort.REMOVED, Sort.ADDED)
    settled = sorts(pair.settled())
    assert "same" not in settled
    assert settled["mode"] is Sort.MODE
    assert settled["grown"] is Sort.CHANGED


def test_equal_packs_are_equal(tmp_path: SystemPath) -> None:
    pair = Pair(tmp_path, put_packed, put_packed)
    assert not compare(pair.old[1], pair.old[1])


def test_trees_of_two_kinds_are_compared_by_reading(tmp_path: SystemPath) -> None:
    pair = Pair(tmp_path, put_tree, put_packed)
    changes = pair.compare()
    assert sorts(changes)["same"] is Sort.UNCERTAIN
    by_size = settle_by_size(changes, {("grown",): 50_000, ("same",): 4}, {("grown",): 50_001})
    assert sorts(by_size)["grown"] is Sort.CHANGED
    assert sorts(by_size)["same"] is Sort.UNCERTAIN
    assert "same" not in sorts(pair.settled())


@pytest.mark.parametrize(
    ("old", "new", "sort"),
    [
        (Symlink("a"), Symlink("a"), None),
        (Symlink("a"), Symlink("b"), Sort.CHANGED),
        (Symlink("a"), EmptyDirectory(), Sort.CHANGED),
        (EmptyDirectory(), EmptyDirectory(), None),
    ],
)
def test_what_is_no_file(old: Entry, new: Entry, sort: Sort | None) -> None:
    changes = compare({("x",): old}, {("x",): new})
    assert [change.sort for change in changes] == ([sort] if sort else [])


@pytest.mark.parametrize("put", [put_tree, put_packed], ids=["plain", "packed"])
def test_what_the_new_one_costs_is_what_a_survey_says(tmp_path: SystemPath, put: Put) -> None:
    pair = Pair(tmp_path, put, put)

    async def run() -> None:
        old, new = [await survey_tree(pair.store, *one) for one in (pair.old, pair.new)]
        seen: set[Reference] = set()
        contents = [[one, *contents_of(tree)] for one, tree in (pair.old, pair.new)]
        amount = await new_blocks(pair.store, contents[0], contents[1], seen)
        lacking = new.without(old)
        assert amount == (lacking.blocks, lacking.block_bytes)
        assert amount.blocks > 0
        assert len(seen) == old.blocks + amount.blocks

    asyncio.run(run())

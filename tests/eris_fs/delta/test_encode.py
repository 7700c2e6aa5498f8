"""Deltas are made of trees on a disk, and lead to exactly the new one."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import ConvergenceSecret, MemoryStore
from eris_fs import load_tree, put_packed_tree
from eris_fs.delta.apply import open_delta
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.encode import PutDelta, put_delta
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.model import BaseFile, BaseRange, DeltaTree
from eris_fs.delta.stored import StoredFiles
from eris_fs.errors import DeltaTooLarge, FileChanged, TreeTooLarge
from eris_fs.model import Limits
from eris_fs.outline import Outline
from eris_fs.tree import get_files
from tests.descriptors import descriptors, left_open
from tests.eris_fs.delta.raw import Link, Tree
from tests.eris_fs.delta.trees import lay_out, read_back
from tests.eris_fs.stores import SilentStore

MIB = 1024 * 1024
TEXT = b"".join(b"line %d of a text that is long enough\n" % number for number in range(2000))
NOISE = random.Random(1).randbytes(100_000)
OLD: Tree = {
    "same": TEXT,
    "changed": TEXT,
    "moved": NOISE,
    "tool": b"#!/bin/sh\n",
    "link": Link("same"),
    "was-link": Link("tool"),
    "gone/below": TEXT[:5000],
    "empty": b"",
    "hollow": None,
    "\udcff\udcfe": b"no UTF-8",
    "swap-1": NOISE[:50_000],
    "swap-2": NOISE[50_000:],
}
NEW: Tree = {
    "same": TEXT,
    "changed": TEXT.replace(b"line 77 ", b"line 78 "),
    "elsewhere/moved-2.1": NOISE,
    "elsewhere/again": b"one byte more" + NOISE,
    "elsewhere/once": b"one byte more" + NOISE,
    "tool*": b"#!/bin/sh\n",
    "link": Link("elsewhere"),
    "was-link": b"now a file",
    "gone": b"",
    "empty": b"",
    "hollow/not any more": None,
    "\udcff\udcfd": b"no UTF-8",
    "swap-1": NOISE[50_000:],
    "swap-2": NOISE[:50_000],
}


async def _round_trip(base: TreeFiles, new: TreeFiles, target: Path) -> tuple[PutDelta, DeltaTree]:
    """Make a delta and apply it at `target`; gives the tree as the delta has it, too."""
    store = MemoryStore()
    made = await put_delta(store, base, new, level=3)
    assert made.blocks == len(store)
    async with open_delta(store, made.capability, base) as delta, aclosing(delta.files()) as files:
        await get_files(delta.outline, files, target)
        return made, delta.tree


def _upgrade(where: Path, old: Tree, new: Tree) -> tuple[PutDelta, DeltaTree]:
    """The same of trees on a disk; what the delta leads to must be the new tree."""
    lay_out(old, where / "old")
    lay_out(new, where / "new")

    async def run() -> tuple[PutDelta, DeltaTree]:
        with DirectoryFiles(where / "old") as base, DirectoryFiles(where / "new") as tree:
            return await _round_trip(base, tree, where / "made")

    found = asyncio.run(run())
    assert read_back(where / "made") == new
    return found


def test_an_upgrade_with_all_that_may_change(tmp_path: Path) -> None:
    made, tree = _upgrade(tmp_path, OLD, NEW)
    # What was moved, swapped and copied is not there again.
    assert made.block_bytes <= 3 * 1024
    moved = tree["elsewhere", "moved-2.1"]
    assert isinstance(moved, BaseFile)
    assert tree["elsewhere", "again"] == tree["elsewhere", "once"]


def test_a_tree_that_stays_takes_a_few_blocks(tmp_path: Path) -> None:
    made, tree = _upgrade(tmp_path, OLD, OLD)
    assert not tree.patches
    assert made.block_bytes == 1024


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({}, {"a": b""}),
        ({"a": b""}, {"a": b"", "b": b"", "c": b"x", "d": b"x"}),
        ({}, {"new": NOISE}),
        ({"a": NOISE}, {}),
    ],
)
def test_trees_with_next_to_nothing(tmp_path: Path, old: Tree, new: Tree) -> None:
    _upgrade(tmp_path, old, new)


def test_a_tree_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(TEXT)
    (tmp_path / "new").write_bytes(TEXT[1000:] + NOISE)

    async def run() -> None:
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            await _round_trip(base, tree, tmp_path / "made")

    asyncio.run(run())
    assert (tmp_path / "made").read_bytes() == TEXT[1000:] + NOISE


def test_a_large_file_whose_content_moved_is_found_wherever_it_went(tmp_path: Path) -> None:
    noise = random.Random(2)
    parts = [noise.randbytes(size * MIB) for size in (9, 12, 19)]
    old = {"lib/libbig-1.0.so*": b"".join(parts)}
    new = {"lib/libbig-1.1.so*": parts[2] + b"in between" + parts[0] + parts[1][1:]}
    made, tree = _upgrade(tmp_path, old, new)
    assert made.block_bytes < 40 * MIB // 100
    assert len(tree.patches) > 2
    # Each piece needs a part of the base only.
    assert all(sum(one.length for one in patch.ranges) < 20 * MIB for patch in tree.patches)


def test_a_renamed_file_is_like_the_one_that_it_was(tmp_path: Path) -> None:
    changed = NOISE[:60_000] + b"?" + NOISE[60_000:]
    old = {"django-5.0.6.dist-info/RECORD": NOISE, "zzz": b"in the way"}
    new = {"django-5.0.7.dist-info/RECORD": changed}
    made, _ = _upgrade(tmp_path, old, new)
    assert made.block_bytes < 3 * 1024


def test_a_file_by_another_name_is_like_the_one_with_its_content(tmp_path: Path) -> None:
    changed = NOISE[:60_000] + b"?" + NOISE[60_000:]
    made, _ = _upgrade(tmp_path, {"a/one": NOISE, "b": TEXT}, {"c/other": changed, "b": TEXT})
    assert made.block_bytes < 3 * 1024


def test_trees_in_a_store_give_the_same_delta_as_directories(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        roots = lay_out(OLD, tmp_path / "old"), lay_out(NEW, tmp_path / "new")
        trees = [await load_tree(store, await put_packed_tree(store, root)) for root in roots]
        with DirectoryFiles(roots[0]) as base, DirectoryFiles(roots[1]) as new:
            there = await put_delta(store, base, new, level=3)
        async with StoredFiles(store, trees[0]) as old, StoredFiles(store, trees[1]) as tree:
            made = await put_delta(store, old, tree, level=3)
        assert made.capability == there.capability

    asyncio.run(run())


def test_the_same_trees_give_the_same_delta_however_many_work(tmp_path: Path) -> None:
    noise = random.Random(3)
    old = {f"{number}": noise.randbytes(3 * MIB) for number in range(4)}
    new = {path: content[:MIB] + b"?" + content[MIB:] for path, content in old.items()}
    lay_out(old, tmp_path / "old")
    lay_out(new, tmp_path / "new")
    told: list[tuple[int, int]] = []

    async def put(concurrency: int, secret: bytes = bytes(32)) -> PutDelta:
        told.clear()
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            return await put_delta(
                MemoryStore(),
                base,
                tree,
                level=3,
                concurrency=concurrency,
                convergence_secret=ConvergenceSecret(secret),
                progress=lambda files, size: told.append((files, size)),
            )

    made = [asyncio.run(put(concurrency)) for concurrency in (1, 3, 3)]
    assert made[0] == made[1] == made[2]
    assert told == sorted(told)
    assert told[-1] == (4, 12 * MIB + 4)
    other = asyncio.run(put(3, b"s" * 32))
    assert other.capability != made[0].capability
    assert other.block_bytes == made[0].block_bytes


class _Changing:
    """A tree whose files are rewritten once so much of them was read."""

    def __init__(self, files: DirectoryFiles, path: Path, after: int) -> None:
        self._files = files
        self._path = path
        self._left = after
        self.outline: Outline = files.outline

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        found = await self._files.read(ranges)
        self._left -= len(found)
        if self._left <= 0:
            content = self._path.read_bytes()
            self._path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        return found


def test_a_file_that_changes_between_two_looks_is_an_error(tmp_path: Path) -> None:
    lay_out({"a": TEXT}, tmp_path / "old")
    lay_out({"a": TEXT + b"more"}, tmp_path / "new")

    async def run() -> None:
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            changing = _Changing(tree, tmp_path / "new" / "a", len(TEXT))
            with pytest.raises(FileChanged, match="another than a moment ago"):
                await put_delta(MemoryStore(), base, changing, level=3)

    asyncio.run(run())


@pytest.mark.parametrize("content", [TEXT[:-1], TEXT + b"x"])
def test_a_file_that_is_not_as_long_as_it_was_is_an_error(tmp_path: Path, content: bytes) -> None:
    lay_out({"a": TEXT}, tmp_path / "old")
    lay_out({"a": TEXT}, tmp_path / "new")

    async def run(changed: str) -> None:
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            (tmp_path / changed / "a").write_bytes(content)
            with pytest.raises(FileChanged):
                await put_delta(MemoryStore(), base, tree, level=3)

    asyncio.run(run("new"))
    (tmp_path / "new" / "a").write_bytes(TEXT)
    asyncio.run(run("old"))


def test_what_is_more_than_the_limits_is_not_made(tmp_path: Path) -> None:
    lay_out({"a": b"old"}, tmp_path / "old")
    lay_out({"a": TEXT}, tmp_path / "new")

    async def run(limits: Limits, level: int) -> None:
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            await put_delta(MemoryStore(), base, tree, limits=limits, level=level)

    with pytest.raises(TreeTooLarge):
        asyncio.run(run(Limits(content_size=1000), 3))
    with pytest.raises(TreeTooLarge):
        asyncio.run(run(Limits(packs=0), 3))
    for level in (0, 23):
        with pytest.raises(ValueError, match="level"):
            asyncio.run(run(Limits(), level))


def test_what_takes_more_than_it_may_is_left_and_nothing_is_put(tmp_path: Path) -> None:
    lay_out({"a": b"old"}, tmp_path / "old")
    lay_out({"a": NOISE, "b": NOISE[:1000]}, tmp_path / "new")

    async def run(most: int) -> int:
        store = MemoryStore()
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            try:
                return (await put_delta(store, base, tree, level=3, most=most)).block_bytes
            except DeltaTooLarge as error:
                assert (error.limit, len(store)) == (most, 0)
                return 0

    size = asyncio.run(run(1 << 20))
    assert asyncio.run(run(size)) == size
    for most in (size - 1, 10):
        assert not asyncio.run(run(most))


def test_a_delta_that_is_given_up_leaves_nothing_open(tmp_path: Path) -> None:
    noise = random.Random(6)
    lay_out({"a": TEXT}, tmp_path / "old")
    # More than is kept in memory of the patches.
    lay_out({"a": noise.randbytes(9 * MIB)}, tmp_path / "new")
    before = descriptors()

    async def run() -> None:
        store = SilentStore(MemoryStore(), 3)
        with DirectoryFiles(tmp_path / "old") as base, DirectoryFiles(tmp_path / "new") as tree:
            putting = asyncio.create_task(put_delta(store, base, tree, level=1))
            await store.stuck.wait()
            assert descriptors() > before
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting

    asyncio.run(run())
    assert not left_open(before)


# --- random trees, and what may happen to them ----------------------------------------------------

_components = st.sampled_from(
    ["a", "b", "lib-1.2", "lib-1.3", "\udcff", "\U0001f389", "\ue000", "a.b", "é", " "]
)
_contents = st.one_of(
    st.sampled_from([b"", b"x", TEXT, TEXT[:900], NOISE[:3000], NOISE, bytes(70_000)]),
    st.binary(max_size=40),
)
_nodes = st.one_of(_contents, _contents, st.none(), st.sampled_from([Link("a"), Link("/b")]))
_paths = st.lists(_components, min_size=1, max_size=3).map("/".join)
_edits = st.sampled_from(["keep", "insert", "overwrite", "cut", "move", "copy", "flip", "drop"])


def _tree(nodes: dict[str, bytes | Link | None]) -> Tree:
    """Leave out what stands below what is no directory, and a file that is there with its star."""
    kept: dict[str, bytes | Link | None] = {}
    for path, node in nodes.items():
        plain = path.rstrip("*")
        others = [other.rstrip("*") for other in kept]
        clash = any(
            plain == other or plain.startswith(other + "/") or other.startswith(plain + "/")
            for other in others
        )
        if not clash and (isinstance(node, bytes) and not isinstance(node, Link)):
            kept[path] = node
        elif not clash:
            kept[plain] = node
    return kept


_trees = st.dictionaries(_paths, _nodes, max_size=8).map(_tree)


@st.composite
def _upgrades(draw: st.DrawFn) -> tuple[Tree, Tree]:
    old = draw(_trees)
    new: dict[str, bytes | Link | None] = {}
    for path, node in old.items():
        edit = draw(_edits)
        at = draw(st.integers(0, len(node))) if isinstance(node, bytes) else 0
        if edit in ("move", "copy"):
            new[draw(_paths)] = node
        if edit not in ("move", "drop"):
            content = isinstance(node, bytes)
            new[path + "*" * (edit == "flip" and content)] = (
                _edited(node, edit, at) if isinstance(node, bytes) else node
            )
    return old, _tree({**new, **draw(_trees)})


def _edited(content: bytes, edit: str, at: int) -> bytes:
    match edit:
        case "insert":
            return content[:at] + b"inserted" + content[at:]
        case "overwrite":
            return content[:at] + b"written" + content[at + 7 :]
        case "cut":
            return content[:at]
    return content


@settings(max_examples=60, deadline=None)
@given(_upgrades())
def test_any_upgrade_leads_to_the_new_tree(upgrade: tuple[Tree, Tree]) -> None:
    with tempfile.TemporaryDirectory() as where:
        _upgrade(Path(where), *upgrade)

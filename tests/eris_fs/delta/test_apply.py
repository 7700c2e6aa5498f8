"""Deltas are applied: to directories and to trees in a store, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from tempfile import gettempdir

import pytest

from eris import (
    BlockNotFound,
    BlockReader,
    BlockSize,
    MemoryStore,
    ReadCapability,
    Reference,
    put_content,
)
from eris_fs import get_tree, load_tree, put_packed_tree, put_tree
from eris_fs.delta.apply import open_delta, read_head
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.keeping import Kept
from eris_fs.delta.model import BaseRange
from eris_fs.delta.stored import StoredFiles
from eris_fs.errors import (
    FileChanged,
    InvalidManifest,
    OtherBase,
    OtherListing,
    TargetExists,
    TreeTooLarge,
)
from eris_fs.model import PackedFile
from eris_fs.outline import Outline
from eris_fs.tree import get_files
from tests.eris_fs.delta import raw
from tests.eris_fs.delta.raw import Link, Tree
from tests.eris_fs.delta.trees import lay_out, read_back

PROGRAM = random.Random(1).randbytes(2_500_000)
CHANGED = PROGRAM[:900_000] + b"something else" + PROGRAM[900_100:]
BASE: Tree = {
    "a": b"old a\n" * 100,
    "bin/tool*": PROGRAM,
    "empty": None,
    "gone": b"gone",
    "link": Link("a"),
    "lib/same": b"the same" * 50,
    # The order of text and the order of bytes differ from here.
    "\udcff.raw": b"no UTF-8",
    "\U0001f389": b"party",
    "\ue000": b"private",
}
NEW: Tree = {
    "a": b"new a\n" * 100,
    "again": b"new a\n" * 100,
    "bin/tool*": CHANGED,
    "empty": b"",
    "empty2": None,
    "link": Link("bin/tool"),
    "moved*": b"the same" * 50,
    "z/copy": CHANGED,
    "\udcff.raw": b"no UTF-8",
    "\U0001f389": b"a larger party",
    "\ue000": b"private",
}


async def restore(
    store: BlockReader, capability: ReadCapability, base: TreeFiles, target: Path
) -> None:
    """Apply a delta as whoever knows nothing else of the tree."""
    async with (
        open_delta(store, capability, base) as found,
        aclosing(found.files()) as files,
    ):
        await get_files(found.outline, files, target)


def apply(delta: bytes, base: TreeFiles, target: Path) -> None:
    """The same, of the delta's bytes."""

    async def run() -> None:
        store = MemoryStore()
        await restore(store, await put_content(store, delta), base, target)

    asyncio.run(run())


@pytest.mark.parametrize("patch_size", [100_000, 1 << 20, 1 << 24])
def test_a_directory_becomes_the_new_tree(tmp_path: Path, patch_size: int) -> None:
    delta = raw.make(BASE, NEW, patch_size=patch_size, before=patch_size > 100_000).to_bytes()
    assert len(delta) < 20_000 or patch_size == 100_000
    with DirectoryFiles(lay_out(BASE, tmp_path / "base")) as base:
        apply(delta, base, tmp_path / "new")
    assert read_back(tmp_path / "new") == NEW


@pytest.mark.parametrize("put", [put_tree, put_packed_tree])
def test_a_tree_in_a_store_becomes_the_new_tree(tmp_path: Path, put: object) -> None:
    old = {path: one for path, one in BASE.items() if "\udcff" not in path}

    async def run() -> None:
        store = MemoryStore()
        capability = await put_content(store, raw.make(old, NEW).to_bytes())
        source = lay_out(old, tmp_path / "base")
        tree = await load_tree(store, await put(store, source))  # type: ignore[operator]
        async with StoredFiles(store, tree) as base:
            with DirectoryFiles(source) as same:
                assert base.outline == same.outline
            await restore(store, capability, base, tmp_path / "new")

    asyncio.run(run())
    assert read_back(tmp_path / "new") == NEW


def test_a_tree_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(PROGRAM)
    with DirectoryFiles(tmp_path / "base") as base:
        apply(raw.make({"": PROGRAM}, {"": CHANGED}).to_bytes(), base, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == CHANGED


def test_a_tree_may_come_from_nothing_and_become_nothing(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for number, new in enumerate([{}, {"a": b"x"}, {"a": b""}]):
        with DirectoryFiles(tmp_path / "base") as base:
            apply(raw.make({}, new).to_bytes(), base, tmp_path / str(number))
        assert read_back(tmp_path / str(number)) == new


def test_the_head_tells_of_a_delta_without_its_base() -> None:
    async def run() -> None:
        store = MemoryStore()
        found = await read_head(store, await put_content(store, raw.make(BASE, NEW).to_bytes()))
        assert (found.entries, found.base) == (len(NEW), raw.digest(raw.outline(BASE)))
        assert found.size == sum(map(len, raw.files(NEW).values()))
        with pytest.raises(InvalidManifest):
            await read_head(store, await put_content(store, b"no delta"))

    asyncio.run(run())


def test_another_base_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    other = lay_out({**BASE, "more": b""}, tmp_path / "base")
    with DirectoryFiles(other) as base, pytest.raises(OtherBase):
        apply(raw.make(BASE, NEW).to_bytes(), base, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["bin/tool", "lib/same"])
def test_a_base_with_other_contents_shows(tmp_path: Path, path: str) -> None:
    source = lay_out(BASE, tmp_path / "base")
    with (source / path).open("r+b") as file:
        file.write(b"X")
    with DirectoryFiles(source) as base, pytest.raises(OtherListing):
        apply(raw.make(BASE, NEW).to_bytes(), base, tmp_path / "new")


def test_whoever_knows_the_whole_compares_it_by_itself(tmp_path: Path) -> None:
    source = lay_out(BASE, tmp_path / "base")
    (source / "lib/same").write_bytes(b"another " * 50)

    async def run() -> bytes:
        store = MemoryStore()
        capability = await put_content(store, raw.make(BASE, NEW).to_bytes())
        with DirectoryFiles(source) as base:
            async with open_delta(store, capability, base) as found:
                async with aclosing(found.files(listing=False)) as files:
                    made = [one.content async for one in files if one.path == ("moved",)]
                with pytest.raises(ValueError, match="once"):
                    await anext(found.files())
        return b"".join(made)

    assert asyncio.run(run()) == b"another " * 50


@pytest.mark.parametrize("what", ["nothing", "shorter", "symlink", "directory", "pipe", "above"])
def test_a_file_of_the_base_that_is_no_longer_one_shows(tmp_path: Path, what: str) -> None:
    source = lay_out(BASE, tmp_path / "base")
    secret = lay_out({"same": b"a secret" * 50}, tmp_path / "outside")
    with DirectoryFiles(source) as base:
        victim = source / "lib/same"
        if what == "above":
            (source / "lib").rename(tmp_path / "away")
            (source / "lib").symlink_to(secret)
        else:
            victim.unlink()
        if what == "shorter":
            victim.write_bytes(b"the same")
        elif what == "symlink":
            victim.symlink_to(secret / "same")
        elif what == "directory":
            victim.mkdir()
        elif what == "pipe":
            os.mkfifo(victim)
        with pytest.raises(FileChanged):
            apply(raw.make(BASE, NEW).to_bytes(), base, tmp_path / "new")
    made = read_back(tmp_path / "new")
    assert not any(isinstance(one, bytes) and b"secret" in one for one in made.values())


def test_a_block_that_is_missing_shows(tmp_path: Path) -> None:
    class Lacking(MemoryStore):
        lacks = 0

        async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
            self.lacks -= 1
            if not self.lacks:
                raise BlockNotFound(reference)
            return await super().get(reference, block_size)

    async def run(base: TreeFiles) -> None:
        store = Lacking()
        delta = raw.make(BASE, NEW, before=False).to_bytes()
        capability = await put_content(store, delta)
        blocks = len(delta) // 32768
        assert blocks > 10
        for number in (1, 2, blocks // 2, blocks):
            store.lacks = number
            with pytest.raises(BlockNotFound):
                await restore(store, capability, base, tmp_path / str(number))

    with DirectoryFiles(lay_out(BASE, tmp_path / "base")) as base:
        asyncio.run(run(base))


def test_whoever_gives_up_leaves_nothing_under_way(tmp_path: Path) -> None:
    class Slow:
        """A base that never answers; notes how its reads end."""

        def __init__(self, outline: Outline) -> None:
            self.outline = outline
            self.asked = asyncio.Event()
            self.under_way = 0

        async def read(self, ranges: Sequence[BaseRange]) -> bytes:
            self.asked.set()
            self.under_way += 1
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.under_way -= 1
            return b""

    async def run(outline: Outline) -> None:
        store, base = MemoryStore(), Slow(outline)
        capability = await put_content(store, raw.make(BASE, NEW).to_bytes())
        task = asyncio.create_task(restore(store, capability, base, tmp_path / "new"))
        await asyncio.wait_for(base.asked.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not base.under_way
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with DirectoryFiles(lay_out(BASE, tmp_path / "base")) as base:
        asyncio.run(run(base.outline))


def test_nothing_is_written_where_something_is_or_beyond_a_limit(tmp_path: Path) -> None:
    async def run(base: TreeFiles) -> None:
        store = MemoryStore()
        capability = await put_content(store, raw.make(BASE, NEW).to_bytes())
        with pytest.raises(TargetExists):
            await restore(store, capability, base, tmp_path / "base")
        async with open_delta(store, capability, base) as found:
            most = found.head.size - 1
            with pytest.raises(TreeTooLarge):
                await get_files(found.outline, found.files(), tmp_path / "new", max_size=most)
        assert not (tmp_path / "new").exists()

    with DirectoryFiles(lay_out(BASE, tmp_path / "base")) as base:
        asyncio.run(run(base))


def test_files_that_come_again_are_kept_in_memory_and_beyond_it() -> None:
    small, large, once = PackedFile(0, 5), PackedFile(5, 3_000_000), PackedFile(3_000_005, 1)
    contents = {small: b"small", large: PROGRAM + PROGRAM[:500_000]}

    async def run() -> None:
        kept = Kept([small, large, once, large, small, large], room=8)
        assert small in kept
        assert large in kept
        assert once not in kept
        for file, content in contents.items():
            for at in range(0, len(content), 700_000):
                await kept.add(file, content[at : at + 700_000])
        for file in (large, small, large):
            async with aclosing(kept.read(file)) as pieces:
                assert b"".join([piece async for piece in pieces]) == contents[file]
        assert small not in kept
        assert large not in kept
        kept.close()

    asyncio.run(run())


def test_a_tree_out_of_a_store_and_one_out_of_a_delta_are_equal(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        packed = await put_packed_tree(store, lay_out(NEW, tmp_path / "as it is"))
        await get_tree(store, await load_tree(store, packed), tmp_path / "from the store")
        capability = await put_content(store, raw.make(BASE, NEW).to_bytes())
        with DirectoryFiles(lay_out(BASE, tmp_path / "base")) as base:
            await restore(store, capability, base, tmp_path / "from the delta")

    asyncio.run(run())
    assert read_back(tmp_path / "from the store") == read_back(tmp_path / "from the delta")


def test_where_temporary_files_have_no_room_their_directory_is_named() -> None:
    async def run() -> None:
        kept = Kept([file := PackedFile(0, 100_000), file], room=0)
        try:
            await kept.add(file, bytes(100_000))
        finally:
            kept.close()

    before = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=re.escape(gettempdir())):
            asyncio.run(run())
    finally:
        setrlimit(RLIMIT_FSIZE, before)

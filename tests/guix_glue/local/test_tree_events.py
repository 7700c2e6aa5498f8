"""Trees out of a store as events of a nar: the same as those of the files that went in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest

import eris_fs
from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference
from eris.store import MemoryStore
from eris.transfer import put_content
from eris_fs import EmptyDirectory, Entry, FilePiece, RegularFile, Tree
from eris_fs import Path as TreePath
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.model import BaseRange
from eris_fs.errors import UnsafePath
from eris_fs.outline import Outline, OutlineFile
from guix_glue.errors import FetchFailed
from guix_glue.formats.nar import Data, Directory, File, NarEvent, NarLimits, Symlink
from guix_glue.local.archive import nar_hash, read_item
from guix_glue.local.restore import ItemRestorer
from guix_glue.local.tree_events import outline_events, tree_events
from tests.guix_glue.local.test_restore import joined

MIB = 1024 * 1024


async def events_of(
    store: MemoryStore, tree: Tree, limits: NarLimits | None = None
) -> list[NarEvent]:
    generator = tree_events(store, tree, limits) if limits else tree_events(store, tree)
    async with aclosing(generator) as batches:
        return [event async for batch in batches for event in batch]


async def stored(root: Path) -> tuple[MemoryStore, dict[TreePath, Entry]]:
    store = MemoryStore()
    return store, await eris_fs.load_tree(store, await eris_fs.put_tree(store, root))


async def stored_packed(root: Path) -> tuple[MemoryStore, dict[TreePath, Entry]]:
    store = MemoryStore()
    return store, await eris_fs.load_tree(store, await eris_fs.put_packed_tree(store, root))


def make_oddities(root: Path) -> None:
    """What trees can hold, with names in whose order text, paths and bytes differ."""
    root.mkdir()
    for directory in ("a", "a.b", "deep/deeper/empty", "empty", "a/empty", "ü"):
        (root / directory).mkdir(parents=True)
    names = ["a-b", "a/c", "a.b/c", "ab", "A", "B", "é", "e\u0301", "\uffee", "\U0001f600", "ü/x"]
    for name in names:
        (root / name).write_text(name)
    (root / "nothing").write_bytes(b"")
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "zero").write_bytes(bytes(3 * MIB))
    for size in (MIB - 1, MIB, MIB + 1, 2 * MIB + 77, 18 * MIB + 5):
        (root / f"size-{size}").write_bytes(size.to_bytes(5, "big") * (size // 5 + 1))
        os.truncate(root / f"size-{size}", size)
    for name, target in (("dangling", "nowhere"), ("up", "../../.."), ("ü/link", "é")):
        (root / name).symlink_to(target)


def test_a_tree_is_what_went_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_oddities(root)

    async def main() -> list[NarEvent]:
        store, tree = await stored(root)
        shuffled = dict(sorted(tree.items(), key=lambda item: hash(item[0])))
        return await events_of(store, shuffled)

    events = asyncio.run(main())
    assert joined(events) == joined(read_item(str(root)))
    restorer = ItemRestorer(str(tmp_path / "copy"))
    restorer.write(events)
    restorer.finish()
    restorer.close()
    assert nar_hash(str(tmp_path / "copy")) == nar_hash(str(root))


def test_a_packed_tree_is_what_went_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_oddities(root)
    # In text, stray bytes come before some letters; in a nar, after.
    for name in (b"\xff", b"\x80", b"\xee\x80\x80", b"\xf0\x90\x80\x80"):
        (tmp_path / "root" / os.fsdecode(name)).write_bytes(name)

    async def main() -> list[NarEvent]:
        return await events_of(*await stored_packed(root))

    assert joined(asyncio.run(main())) == joined(read_item(str(root)))


async def pieces_of(files: DirectoryFiles, piece: int = MIB) -> AsyncGenerator[FilePiece, None]:
    """What comes of files that are read one after the other."""
    for number, path in enumerate(files.outline.files):
        size = files.outline.sizes[number]
        for offset in range(0, max(size, 1), piece):
            length = min(piece, size - offset)
            content = files.read_now([BaseRange(number, offset, length)])
            yield FilePiece(path, content, offset + length == size)


async def outlined(root: Path) -> list[NarEvent]:
    with DirectoryFiles(root) as files:
        async with (
            aclosing(pieces_of(files)) as pieces,
            aclosing(outline_events(files.outline, pieces)) as batches,
        ):
            return [event async for batch in batches for event in batch]


def test_an_outline_with_contents_is_what_went_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_oddities(root)
    for name in (b"\xff", b"\x80", b"\xee\x80\x80", b"\xf0\x90\x80\x80"):
        (tmp_path / "root" / os.fsdecode(name)).write_bytes(name)
    assert joined(asyncio.run(outlined(root))) == joined(read_item(str(root)))


@pytest.mark.parametrize("missing", [1, -1])
def test_contents_of_another_size_than_the_outline_says_are_refused(
    tmp_path: Path, missing: int
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)

    async def main() -> None:
        with DirectoryFiles(tmp_path / "file") as files:
            outline = Outline({(): OutlineFile(1000 + missing)})
            async with aclosing(pieces_of(files)) as pieces:
                with pytest.raises(FetchFailed, match="not as long"):
                    async for _ in outline_events(outline, pieces):
                        pass

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["file", "program", "symlink", "empty", "large"])
def test_a_root_may_be_anything(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    match kind:
        case "symlink":
            root.symlink_to("nowhere")
        case "empty":
            root.mkdir()
        case _:
            root.write_bytes(b"x" * (3 * MIB if kind == "large" else 5))
            root.chmod(0o755 if kind == "program" else 0o644)

    async def main() -> tuple[list[NarEvent], ...]:
        in_store, packed = await stored(root), await stored_packed(root)
        return await events_of(*in_store), await events_of(*packed), await outlined(root)

    for events in asyncio.run(main()):
        assert joined(events) == joined(read_item(str(root)))


def test_batches_are_neither_small_nor_large() -> None:
    async def main() -> list[list[NarEvent]]:
        store = MemoryStore()
        capability = await put_content(store, b"x" * 100)
        tree: dict[TreePath, Entry] = {(f"{n}",): RegularFile(capability) for n in range(1000)}
        tree[("large",)] = RegularFile(await put_content(store, b"x" * (20 * MIB)))
        return [batch async for batch in tree_events(store, tree)]

    batches = asyncio.run(main())
    assert 10 <= len(batches) <= 30
    for batch in batches:
        assert sum(not isinstance(event, Data) for event in batch) <= 256
        assert sum(len(event.content) for event in batch if isinstance(event, Data)) < 3 * MIB


def test_the_empty_tree_is_an_empty_directory() -> None:
    assert asyncio.run(events_of(MemoryStore(), {})) == [Directory(())]


class Slow(MemoryStore):
    """A store that answers only after the event loop has gone round."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001)
            return await super().get(reference, block_size)
        finally:
            self.under_way -= 1


def test_requests_of_many_files_overlap_and_end_with_the_reader() -> None:
    async def main() -> tuple[int, int]:
        store = Slow()
        tree: dict[TreePath, Entry] = {}
        for number in range(300):
            content = b"%d" % number * (MIB if number % 100 == 50 else 1)
            tree[(f"{number:03}",)] = RegularFile(await put_content(store, content))
        async with aclosing(tree_events(store, tree)) as batches:
            async for _ in batches:
                break
        await asyncio.sleep(0)
        return store.most, store.under_way

    most, under_way = asyncio.run(main())
    assert most > 100
    assert under_way == 0


class ForgetfulStore(MemoryStore):
    """Answers the second question for a block with not found."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[Reference] = set()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if reference in self.asked:
            raise BlockNotFound(reference)
        self.asked.add(reference)
        return await super().get(reference, block_size)


def test_a_length_that_cannot_be_looked_up_is_an_error_of_the_store() -> None:
    async def main() -> None:
        store = ForgetfulStore()
        capability = await put_content(store, os.urandom(40 * MIB))
        with pytest.raises(BlockNotFound):
            await events_of(store, {("large",): RegularFile(capability)})

    asyncio.run(main())


def test_a_length_that_turns_out_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(wrong: int) -> None:
        async def lie(*_: object) -> int:
            return wrong

        monkeypatch.setattr("guix_glue.local.tree_events.content_length", lie)
        store = MemoryStore()
        capability = await put_content(store, b"x" * (20 * MIB))
        with pytest.raises(FetchFailed, match="not as long"):
            await events_of(store, {("large",): RegularFile(capability)})

    for wrong in (20 * MIB - 1, 20 * MIB + 1, 0):
        asyncio.run(main(wrong))


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        ([("a",), ("a", "b")], FetchFailed),
        ([(), ("a",)], FetchFailed),
        ([("a", "..", "b")], UnsafePath),
        ([("a/b",)], UnsafePath),
        ([("",)], UnsafePath),
        ([("a\0",)], UnsafePath),
        ([("\udcff",)], UnsafePath),
        ([("a",) * 300], UnsafePath),
        ([("x" * 256,)], UnsafePath),
        ([("a", "b", "c"), ("a", "b", "d"), ("e",), ("f",)], FetchFailed),
    ],
)
def test_hostile_trees_are_refused(paths: list[TreePath], error: type[Exception]) -> None:
    tree: Mapping[TreePath, Entry] = {path: EmptyDirectory() for path in paths}
    with pytest.raises(error):
        asyncio.run(events_of(MemoryStore(), tree, NarLimits(entries=6)))


def test_hostile_symlinks_are_refused() -> None:
    for target in ("", "a\0b", "x" * 5000):
        with pytest.raises(UnsafePath):
            asyncio.run(events_of(MemoryStore(), {("a",): eris_fs.Symlink(target)}))


def test_the_limits_count_what_is_implied() -> None:
    tree: Tree = {("a", "b", "c"): EmptyDirectory(), ("a", "b", "d"): eris_fs.Symlink("c")}
    assert asyncio.run(events_of(MemoryStore(), tree, NarLimits(entries=5))) == [
        Directory(()),
        Directory((b"a",)),
        Directory((b"a", b"b")),
        Directory((b"a", b"b", b"c")),
        Symlink((b"a", b"b", b"d"), b"c"),
    ]
    with pytest.raises(FetchFailed):
        asyncio.run(events_of(MemoryStore(), tree, NarLimits(entries=4)))


def test_the_files_together_are_no_larger_than_the_limit() -> None:
    async def main(limit: int) -> list[NarEvent]:
        store = MemoryStore()
        entry = RegularFile(await put_content(store, b"x" * 1000))
        return await events_of(store, {("a",): entry, ("b",): entry}, NarLimits(size=limit))

    assert File((b"b",), 1000, False) in asyncio.run(main(2000))
    with pytest.raises(FetchFailed, match="1999"):
        asyncio.run(main(1999))

"""Packed trees from disk to disk: what goes in comes out, whatever it is, and always the same."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import eris_fs
from eris import (
    BlockNotFound,
    BlockSize,
    ConvergenceSecret,
    MemoryStore,
    NullStore,
    ReadCapability,
    Reference,
    get_content,
)
from eris_fs import PackedFile, PackedTree, Symlink
from eris_fs.packed.layout import CUT_SIZE
from tests.descriptors import descriptors, left_open
from tests.eris_fs.packed.stranger import unpack
from tests.eris_fs.stores import BackwardStore, SilentStore
from tests.eris_fs.test_known import DictCache, ForgetfulStore
from tests.eris_fs.trees import Link, Node, directories, lay_out, nodes, read_back
from tests.examples import examples

FAST = 1


def put(store: MemoryStore | NullStore, root: Path, **how: object) -> ReadCapability:
    return asyncio.run(eris_fs.put_packed_tree(store, root, level=FAST, **how))  # type: ignore[arg-type]


def load(store: MemoryStore, capability: ReadCapability) -> PackedTree:
    tree = asyncio.run(eris_fs.load_tree(store, capability))
    assert isinstance(tree, PackedTree)
    return tree


def there_and_back(root: Path, target: Path) -> MemoryStore:
    async def main() -> MemoryStore:
        store = MemoryStore()
        slow = BackwardStore(store)
        capability = await eris_fs.put_packed_tree(slow, root, level=FAST)
        tree = await eris_fs.load_tree(slow, capability)
        await eris_fs.get_tree(slow, tree, target)
        return store

    return asyncio.run(main())


@settings(max_examples=examples(60), deadline=None)
@given(tree=directories | nodes)
def test_what_goes_in_comes_out(tree: Node) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root, target = Path(scratch, "in"), Path(scratch, "out")
        lay_out(tree, root)
        there_and_back(root, target)
        assert read_back(target) == tree


def oddities(root: Path) -> None:
    """Everything that a tree can hold."""
    source = random.Random(7)
    root.mkdir()
    for name, content, mode in (
        (b"small", b"a" * 100, 0o644),
        (b"again", b"a" * 100, 0o755),
        (b"empty", b"", 0o644),
        (b"empty program", b"", 0o755),
        (b"noise", source.randbytes(40_000), 0o644),
        (b"large", source.randbytes(300_000) * 2, 0o755),
        (b"large again", source.randbytes(70_000) * 2, 0o644),
        (b"very large", (source.randbytes(1000) * 9000)[: 8 * 1024 * 1024 + 5], 0o644),
        (b"zeroes", bytes(10_000_000), 0o644),
        (b"caf\xe9 \xff\xfe", b"latin", 0o644),
        (b"line\nbreak \x1b[m", b"", 0o644),
        ("é日😀".encode(), b"utf-8", 0o644),
    ):
        path = os.fsencode(root) + b"/" + name
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
    os.link(root / "very large", root / "very large again")
    (root / "deep" / "er" / "hollow").mkdir(parents=True)
    (root / "dir").mkdir()
    os.symlink(b"caf\xe9", os.fsencode(root) + b"/dir/\xff link")
    os.symlink("../../nowhere", root / "dir" / "link")
    os.symlink("x", root / "dangling")
    (root / "dir" / "z").write_bytes(b"")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "odd"
    oddities(root)
    return root


def test_every_oddity(odd: Path, tmp_path: Path) -> None:
    store = there_and_back(odd, tmp_path / "out")
    assert read_back(tmp_path / "out") == read_back(odd)
    # Those of equal content are there once, and zeroes take next to nothing.
    assert len(store) < 70


def test_a_stranger_reads_it(odd: Path) -> None:
    store = MemoryStore()
    urn = put(store, odd).to_urn()
    found = asyncio.run(unpack(store, urn))
    expected: dict[bytes, tuple[str, bytes]] = {}
    base = os.fsencode(odd)
    for directory, directories_, files in os.walk(base):
        for name in (*files, *directories_):
            path = os.path.join(directory, name)
            inner = os.path.relpath(path, base)
            if os.path.islink(path):
                expected[inner] = "l", os.readlink(path)
            elif os.path.isdir(path):
                if not os.listdir(path):
                    expected[inner] = "d", b""
            else:
                with open(path, "rb") as file:
                    kind = "x" if os.stat(path).st_mode & 0o100 else "f"
                    expected[inner] = kind, file.read()
    assert found == expected


@pytest.mark.parametrize(
    "root",
    [b"content", b"", bytes(9_000_000), Link("anywhere/at all"), {}],
    ids=lambda it: str(it)[:9],
)
def test_a_root_of_any_kind(root: object, tmp_path: Path) -> None:
    where = tmp_path / "in"
    if isinstance(root, bytes):
        where.write_bytes(root)
    else:
        lay_out(root, where)  # type: ignore[arg-type]
    there_and_back(where, tmp_path / "out")
    assert read_back(tmp_path / "out") == read_back(where)


def test_the_same_tree_has_the_same_capability(odd: Path, tmp_path: Path) -> None:
    first = put(MemoryStore(), odd)
    assert first == put(MemoryStore(), odd, concurrency=1, window=3)
    # Made in another order, at another place.
    copy = tmp_path / "copy"
    lay_out(dict(reversed(read_back(odd).items())), copy)  # type: ignore[union-attr]
    assert first == put(MemoryStore(), copy)
    secret = ConvergenceSecret(b"s" * 32)
    assert first != put(MemoryStore(), odd, convergence_secret=secret)
    tree = load(store := MemoryStore(), put(store, odd))
    assert tree.writer == eris_fs.writer_name(FAST)


def test_other_readers_refuse_it_cleanly(odd: Path) -> None:
    store = MemoryStore()
    index = asyncio.run(get_content(store, put(store, odd)))
    assert eris_fs.looks_like_tree(index)
    with pytest.raises(eris_fs.InvalidManifest):
        eris_fs.ManifestReader().feed(index)


def test_files_in_any_order_and_again(odd: Path) -> None:
    async def main() -> None:
        store = MemoryStore()
        capability = await eris_fs.put_packed_tree(store, odd, level=FAST)
        tree = await eris_fs.load_tree(store, capability)
        files = [path for path, entry in tree.items() if isinstance(entry, PackedFile)]
        wanted = random.Random(1).choices(files, k=60)
        found: list[tuple[eris_fs.Path, bytes]] = []
        content = b""
        # Room for one pack: the others are loaded again and again.
        assert isinstance(tree, PackedTree)
        from eris_fs.packed import read_packed_files

        async for path, piece, last in read_packed_files(store, tree, wanted, room=1):
            content += piece
            if last:
                found.append((path, content))
                content = b""
        assert found == [(path, odd.joinpath(*path).read_bytes()) for path in wanted]

    asyncio.run(main())


def test_one_file_costs_one_pack(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    source = random.Random(3)
    for number in range(200):
        (root / f"{number}").write_bytes(source.randbytes(10_000))

    class Counting(MemoryStore):
        gets = 0

        async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
            self.gets += 1
            return await super().get(reference, block_size)

    async def main() -> None:
        store = Counting()
        capability = await eris_fs.put_packed_tree(store, root, level=FAST)
        tree = await eris_fs.load_tree(store, capability)
        assert isinstance(tree, PackedTree) and len(tree.packs) > 5
        store.gets = 0
        async for piece in eris_fs.read_files(store, tree, [("77",)]):
            assert piece.content == (root / "77").read_bytes()
        assert store.gets < len(store) / 3

    asyncio.run(main())


def test_one_pack_at_a_time_is_all_that_is_held(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(random.Random(0).randbytes(5 * CUT_SIZE))
    tracemalloc.start()
    try:
        put(NullStore(), tmp_path, concurrency=1, window=16)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What was read, and the frame or the blocks that become of it; little is on its way by then.
    assert peak < 2.5 * CUT_SIZE


def test_an_upgrade_moves_little(tmp_path: Path) -> None:
    """Changed contents and new files move no pack but their own."""
    source = random.Random(4)
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
    for number in range(400):
        content = source.randbytes(source.randrange(20_000))
        for version in ("old", "new"):
            (tmp_path / version / f"{number:03}").write_bytes(content)
    (tmp_path / "new" / "123").write_bytes(source.randbytes(9_000))
    (tmp_path / "new" / "200-new").write_bytes(b"new")
    (tmp_path / "new" / "300").unlink()

    async def main() -> None:
        surveys = []
        for version in ("old", "new"):
            store = MemoryStore()
            capability = await eris_fs.put_packed_tree(store, tmp_path / version, level=FAST)
            tree = await eris_fs.load_tree(store, capability)
            surveys.append(await eris_fs.survey_tree(store, capability, tree))
            assert surveys[-1].blocks == len(store)
            assert surveys[-1].raw_bytes == sum(
                path.stat().st_size for path in (tmp_path / version).iterdir()
            )
        old, new = surveys
        # Three packs of some two hundred KiB, of four MiB, and the index.
        assert 3 * 32768 < new.without(old).block_bytes < new.block_bytes / 4

    asyncio.run(main())


def test_what_is_known_is_not_sent_again(odd: Path) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()

        async def encode() -> tuple[ReadCapability, int]:
            before = store.puts
            known = eris_fs.KnownContents(cache, store)
            capability = await eris_fs.put_packed_tree(store, odd, level=FAST, known=known)
            return capability, store.puts - before

        plain = await eris_fs.put_packed_tree(NullStore(), odd, level=FAST)
        first, _ = await encode()
        assert cache.known
        second, sent = await encode()
        assert plain == first == second
        assert sent <= 3  # the index
        tree = await eris_fs.load_tree(store, first)
        assert isinstance(tree, PackedTree)
        piece = next(tree.packs[0].pieces())
        store.lost.add(piece.root.reference)
        assert (await encode())[0] == first
        assert not store.lost
        # A cache that is full of nonsense is no worse than none.
        for key, (head, _) in list(cache.known.items()):
            cache.known[key] = head, bytes(64)
        assert (await encode())[0] == first
        for key in cache.known:
            cache.known[key] = bytes(66), bytes(64)
        assert (await encode())[0] == first

    asyncio.run(main())


def test_too_large_is_known_before_anything_is_written(odd: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in odd.iterdir() if path.is_file())

    async def main() -> None:
        store = MemoryStore()
        capability = await eris_fs.put_packed_tree(store, odd, level=FAST)
        tree = await eris_fs.load_tree(store, capability)
        with pytest.raises(eris_fs.TreeTooLarge):
            await eris_fs.get_tree(store, tree, tmp_path / "out", max_size=size - 1)
        await eris_fs.get_tree(store, tree, tmp_path / "fits", max_size=size)

    asyncio.run(main())
    assert not (tmp_path / "out").exists()


def test_a_missing_block_is_named_and_nothing_is_left_open(odd: Path, tmp_path: Path) -> None:
    async def main() -> None:
        store = MemoryStore()
        capability = await eris_fs.put_packed_tree(store, odd, level=FAST)
        tree = await eris_fs.load_tree(store, capability)
        assert isinstance(tree, PackedTree)
        lost = list(tree.packs[2].pieces())[-1].root.reference
        rest = MemoryStore([block for name, block in store._blocks.items() if name != lost])
        before = descriptors()
        with pytest.raises(BlockNotFound) as caught:
            await eris_fs.get_tree(rest, tree, tmp_path / "out")
        assert caught.value.reference == lost
        assert caught.value.__notes__ == ["while reading pack 2"]
        assert not left_open(before)

    asyncio.run(main())


@pytest.mark.parametrize("answers", [0, 5, 30])
def test_cancelled_anywhere_it_ends_cleanly(odd: Path, tmp_path: Path, answers: int) -> None:
    async def main() -> None:
        whole = MemoryStore()
        capability = await eris_fs.put_packed_tree(whole, odd, level=FAST)
        tree = await eris_fs.load_tree(whole, capability)
        before = descriptors()

        async def cancelled(work: Callable[[SilentStore], Coroutine[Any, Any, object]]) -> None:
            store = SilentStore(whole, answers)
            task = asyncio.ensure_future(work(store))
            await store.stuck.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        await cancelled(lambda store: eris_fs.get_tree(store, tree, tmp_path / "out"))
        await cancelled(lambda store: eris_fs.put_packed_tree(store, odd, level=FAST))
        assert not left_open(before)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_names_that_are_no_utf_8_stay_out_of_other_trees(odd: Path) -> None:
    with pytest.raises(eris_fs.UnsupportedEntry):
        asyncio.run(eris_fs.put_tree(NullStore(), odd))


def test_levels_that_zstd_lacks() -> None:
    for level in (0, -1, 23):
        with pytest.raises(ValueError, match="level"):
            asyncio.run(eris_fs.put_packed_tree(NullStore(), "/nowhere", level=level))


def test_symlinks_may_hold_any_bytes(odd: Path) -> None:
    tree = load(store := MemoryStore(), put(store, odd))
    assert tree[("dir", "\udcff link")] == Symlink("caf\udce9")

"""Whole trees through a store: round trips, sameness, and what happens when something fails."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from eris import (
    BlockNotFound,
    BlockSize,
    BlockWriter,
    ConvergenceSecret,
    CorruptBlock,
    MemoryStore,
    NullStore,
    ReadCapability,
    Reference,
    StoreUnavailable,
    get_content,
    put_content,
)
from eris.transfer import DEFAULT_WINDOW as LARGE_WINDOW
from eris_fs import (
    EmptyDirectory,
    FileChanged,
    InvalidManifest,
    Limits,
    RegularFile,
    Symlink,
    TargetExists,
    Tree,
    TreeTooLarge,
    UnsupportedEntry,
    get_tree,
    load_tree,
    looks_like_tree,
    put_manifest,
    put_tree,
)
from eris_fs.fetch import DEFAULT_WINDOW as FETCH_WINDOW
from tests.descriptors import descriptors, left_open
from tests.eris_fs.stores import BackwardStore, HookedStore, SilentStore
from tests.eris_fs.trees import (
    File,
    Link,
    Node,
    bomb,
    capability,
    directories,
    lay_out,
    nodes,
    read_back,
)
from tests.examples import examples

LARGE = 3 * 1024 * 1024 + 1

EXAMPLE: dict[str, Node] = {
    "empty": File(b""),
    "one": File(b"1"),
    "below": File(b"b" * 16383),
    "at": File(b"a" * 16384),
    "large": File(os.urandom(LARGE)),
    "bin": {"run": File(b"#!/bin/sh\n", executable=True), "sh": Link("run")},
    "nothing": {},
    "dangling": Link("no/where"),
    "absolute": Link("/etc/passwd"),
    "zzz": {f"{number:04}": File(b"%d" % (number % 300)) for number in range(700)},
}


async def copy(store: BlockWriter, source: Path, target: Path) -> ReadCapability:
    """Put a tree and get it elsewhere."""
    capability = await put_tree(store, source)
    await get_tree(store, await load_tree(store, capability), target)
    return capability


def encode(
    source: Path,
    *,
    block_size: BlockSize | None = None,
    secret: ConvergenceSecret | None = None,
) -> ReadCapability:
    """Compute the capability of a tree."""
    return asyncio.run(
        put_tree(
            NullStore(),
            source,
            block_size=block_size,
            convergence_secret=secret or ConvergenceSecret.null(),
        )
    )


@settings(max_examples=examples(60), deadline=None)
@given(nodes | directories)
def test_round_trip(node: Node) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "source"), Path(directory, "target")
        lay_out(node, source)
        before = descriptors()
        asyncio.run(copy(MemoryStore(), source, target))
        assert not left_open(before)
        assert read_back(target) == node


@pytest.mark.parametrize("backward", [False, True])
def test_round_trip_of_all_kinds(tmp_path: Path, backward: bool) -> None:
    lay_out(EXAMPLE, tmp_path / "source")

    async def run() -> int:
        memory = MemoryStore()
        store = BackwardStore(memory) if backward else memory
        await copy(store, tmp_path / "source", tmp_path / "target")
        return store.most_in_flight if isinstance(store, BackwardStore) else 0

    most = asyncio.run(run())
    assert read_back(tmp_path / "target") == EXAMPLE
    if backward:
        # The window of the batches, and that of the large file.
        assert 64 < most <= FETCH_WINDOW + LARGE_WINDOW


def test_round_trip_in_the_smallest_window(tmp_path: Path) -> None:
    lay_out(EXAMPLE, tmp_path / "source")

    async def run() -> None:
        store = MemoryStore()
        capability = await put_tree(store, tmp_path / "source", window=1, concurrency=1)
        tree = await load_tree(store, capability, window=1)
        await get_tree(store, tree, tmp_path / "target", window=1)

    asyncio.run(run())
    assert read_back(tmp_path / "target") == EXAMPLE


@pytest.mark.parametrize("concurrency", [1, 2])
def test_no_more_is_encoded_at_once_than_was_asked_for(tmp_path: Path, concurrency: int) -> None:
    # Batches of six files.
    lay_out({f"{number:02}": File(bytes(200_000)) for number in range(36)}, tmp_path / "tree")
    threads: set[int] = set()
    most = 0
    met = threading.Condition()

    def rule(_: int) -> BlockSize:
        nonlocal most
        with met:
            threads.add(threading.get_ident())
            most = max(most, len(threads))
            met.notify_all()
            assert met.wait_for(lambda: most >= concurrency, 60)
        # Time for one too many to come in: there is no event for who does not.
        time.sleep(0.005)
        threads.discard(threading.get_ident())
        return BlockSize.LARGE

    asyncio.run(put_tree(NullStore(), tmp_path / "tree", block_size=rule, concurrency=concurrency))
    assert most == concurrency


def test_with_nothing_at_once_nothing_is_done(tmp_path: Path) -> None:
    lay_out(EXAMPLE, tmp_path / "tree")
    with pytest.raises(ValueError, match="0 jobs"):
        asyncio.run(put_tree(NullStore(), tmp_path / "tree", concurrency=0))


def test_a_published_urn(tmp_path: Path) -> None:
    # If this changes, trees that are published already get another name.
    tree: dict[str, Node] = {"a": {"b": File(b"Hail ERIS!\n"), "c": Link("b")}, "d": {}}
    lay_out(tree, tmp_path / "tree")
    index = "da65726974 82 01 a381 6164 81 0382 6161 6162 82 00 {}82 6161 6163 82 02 6162"
    store = MemoryStore()
    file = asyncio.run(put_content(store, b"Hail ERIS!\n"))
    expected = asyncio.run(put_content(store, bytes.fromhex(index.format(file.to_cbor().hex()))))
    assert encode(tmp_path / "tree") == expected


@settings(max_examples=30, deadline=None)
@given(directories)
def test_the_same_tree_has_the_same_capability(node: Node) -> None:
    assert isinstance(node, dict)
    with tempfile.TemporaryDirectory() as directory:
        lay_out(node, Path(directory, "one"))
        lay_out(dict(reversed(node.items())), Path(directory, "other"))
        assert encode(Path(directory, "one")) == encode(Path(directory, "other"))


def test_secrets_and_block_sizes_make_other_capabilities(tmp_path: Path) -> None:
    lay_out({"a": File(b"a" * 20_000), "b": File(b"b")}, tmp_path / "tree")
    secret = ConvergenceSecret(b"s" * 32)
    root = tmp_path / "tree"
    capabilities = [
        encode(root),
        encode(root, secret=secret),
        encode(root, secret=ConvergenceSecret.unique()),
        encode(root, block_size=BlockSize.LARGE),
        encode(root, block_size=BlockSize.SMALL),
    ]
    assert len(set(capabilities)) == len(capabilities)
    assert encode(root, secret=secret) == capabilities[1]


def block_sizes(root: Path, block_size: BlockSize | None) -> dict[str, BlockSize]:
    """Say which block size each file of a directory has, and the index (as '')."""

    async def run() -> dict[str, BlockSize]:
        store = MemoryStore()
        capability = await put_tree(store, root, block_size=block_size)
        sizes = {"": capability.block_size}
        for path, entry in (await load_tree(store, capability)).items():
            assert isinstance(entry, RegularFile)
            sizes[path[0]] = entry.capability.block_size
        return sizes

    return asyncio.run(run())


def test_each_file_has_the_block_size_of_its_length(tmp_path: Path) -> None:
    small, large = BlockSize.SMALL, BlockSize.LARGE
    lengths = {"empty": 0, "below": 16383, "at": 16384, "more": LARGE}
    lay_out({name: File(b"x" * length) for name, length in lengths.items()}, tmp_path / "t")
    expected = {"": small, "empty": small, "below": small, "at": large, "more": large}
    assert block_sizes(tmp_path / "t", None) == expected
    assert set(block_sizes(tmp_path / "t", small).values()) == {small}
    assert set(block_sizes(tmp_path / "t", large).values()) == {large}


def test_files_are_encoded_as_content_is(tmp_path: Path) -> None:
    contents = [b"", b"x", b"x" * 16384, os.urandom(LARGE)]
    secret = ConvergenceSecret(b"s" * 32)

    async def run() -> None:
        for number, content in enumerate(contents):
            (tmp_path / "file").write_bytes(content)
            store = MemoryStore()
            capability = await put_tree(store, tmp_path / "file", convergence_secret=secret)
            entry = (await load_tree(store, capability))[()]
            alone = await put_content(NullStore(), content, convergence_secret=secret)
            assert entry == RegularFile(alone), number
            assert await get_content(store, alone) == content

    asyncio.run(run())


def test_a_large_index(tmp_path: Path) -> None:
    tree: Tree = {(f"{number:05}",): RegularFile(capability(number)) for number in range(20_000)}

    async def run() -> None:
        store = MemoryStore()
        root = await put_manifest(store, tree)
        assert root.block_size is BlockSize.LARGE
        assert await load_tree(store, root) == tree

    asyncio.run(run())


def test_equal_files_of_a_batch_are_sent_once(tmp_path: Path) -> None:
    lay_out({f"{number}": File(b"same" * 1000) for number in range(100)}, tmp_path / "tree")
    store = HookedStore(MemoryStore(), lambda _: None)
    asyncio.run(put_tree(store, tmp_path / "tree"))
    # Four different blocks in each file, a node above them, and the index.
    assert store.requests < 30


def test_progress(tmp_path: Path) -> None:
    lay_out(EXAMPLE, tmp_path / "source")
    put: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []

    async def run() -> None:
        store = MemoryStore()
        root = await put_tree(store, tmp_path / "source", progress=lambda *done: put.append(done))
        tree = await load_tree(store, root)
        await get_tree(store, tree, tmp_path / "target", progress=lambda *done: got.append(done))

    asyncio.run(run())
    found = (tmp_path / "source").rglob("*")
    files = [path for path in found if path.is_file() and not path.is_symlink()]
    total = (len(files), sum(path.stat().st_size for path in files))
    for seen in (put, got):
        assert seen == sorted(seen)
        assert len(seen) > 3
        assert seen[-1] == total


def test_content_that_is_no_tree() -> None:
    async def run() -> None:
        store = MemoryStore()
        root = await put_content(store, b"Hail ERIS!")
        assert not looks_like_tree(await get_content(store, root))
        with pytest.raises(InvalidManifest):
            await load_tree(store, root)

    asyncio.run(run())


HOSTILE = [
    b"\xa1\x82\x62..\x64evil",
    b"\xa1\x67../evil",
    b"\xa1\x69/tmp/evil",
    b"\xa2\x61a\x82\x02\x62..\x66a/evil",
    b"\xa2\x82\x61a\x64evil\x82\x02\x62..\x61a",
]


@pytest.mark.parametrize("pairs", HOSTILE)
def test_hostile_indices(tmp_path: Path, pairs: bytes) -> None:
    (tmp_path / "jail").mkdir()

    async def run() -> None:
        store = MemoryStore()
        file = await put_content(store, b"evil")
        index = b"\xda\x65\x72\x69\x74\x82\x01" + pairs + b"\x82\x00" + file.to_cbor()
        root = await put_content(store, index)
        with pytest.raises(InvalidManifest):
            await load_tree(store, root)

    asyncio.run(run())
    assert read_back(tmp_path) == {"jail": {}}


def fails(error: type[BaseException], job: Callable[[], Awaitable[object]]) -> BaseException:
    """Check that a job fails so, and leaves nothing open and nothing running."""

    async def run() -> None:
        before = descriptors()
        try:
            await job()
        finally:
            assert not left_open(before)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

    with pytest.raises(error) as caught:
        asyncio.run(run())
    return caught.value


def test_special_files_stop_the_encoding(tmp_path: Path) -> None:
    lay_out(EXAMPLE, tmp_path / "tree")
    os.mkfifo(tmp_path / "tree" / "zzz" / "pipe")
    error = fails(UnsupportedEntry, lambda: put_tree(MemoryStore(), tmp_path / "tree"))
    assert "zzz/pipe" in str(error)


def test_limits(tmp_path: Path) -> None:
    lay_out({"a": {"b": File(b"")}}, tmp_path / "tree")
    fails(
        TreeTooLarge, lambda: put_tree(MemoryStore(), tmp_path / "tree", limits=Limits(entries=1))
    )

    async def load() -> None:
        store = MemoryStore()
        root = await put_tree(store, tmp_path / "tree")
        await load_tree(store, root, limits=Limits(entries=1))

    fails(InvalidManifest, load)


def test_a_large_file_that_grows_while_being_sent(tmp_path: Path) -> None:
    lay_out({"large": File(bytes(LARGE))}, tmp_path / "tree")

    def grow(_: int) -> None:
        with (tmp_path / "tree" / "large").open("ab") as file:
            file.write(b"more")

    store = HookedStore(MemoryStore(), grow)
    error = fails(FileChanged, lambda: put_tree(store, tmp_path / "tree"))
    assert "large" in str(error)


@pytest.mark.parametrize("after", [0, 1, 50, 400])
def test_a_store_that_fails_midway(tmp_path: Path, after: int) -> None:
    lay_out(EXAMPLE, tmp_path / "source")

    def fail(number: int) -> None:
        if number >= after:
            raise StoreUnavailable("gone")

    store = MemoryStore()
    fails(StoreUnavailable, lambda: put_tree(HookedStore(store, fail), tmp_path / "source"))
    tree = asyncio.run(load(store, tmp_path / "source"))
    hooked = HookedStore(store, fail)
    fails(StoreUnavailable, lambda: get_tree(hooked, tree, tmp_path / "target"))


async def load(store: MemoryStore, source: Path) -> Tree:
    """Put a tree and give its index."""
    return await load_tree(store, await put_tree(store, source))


@pytest.mark.parametrize("answers", [0, 1, 50, 400])
def test_cancelling(tmp_path: Path, answers: int) -> None:
    lay_out(EXAMPLE, tmp_path / "source")

    async def cancel(store: SilentStore, job: Awaitable[object]) -> None:
        task = asyncio.ensure_future(job)
        await store.stuck.wait()
        task.cancel()
        await task

    async def put() -> None:
        store = SilentStore(MemoryStore(), answers)
        await cancel(store, put_tree(store, tmp_path / "source"))

    async def get() -> None:
        memory = MemoryStore()
        tree = await load(memory, tmp_path / "source")
        store = SilentStore(memory, answers)
        await cancel(store, get_tree(store, tree, tmp_path / "target"))

    fails(asyncio.CancelledError, put)
    fails(asyncio.CancelledError, get)


def test_a_missing_block_names_the_file(tmp_path: Path) -> None:
    tree: Tree = {("bin", "lost"): RegularFile(capability(7))}
    error = fails(BlockNotFound, lambda: get_tree(MemoryStore(), tree, tmp_path / "target"))
    assert error.__notes__ == ["while reading bin/lost"]


def test_a_corrupt_block_names_the_file(tmp_path: Path) -> None:
    class Corrupt(MemoryStore):
        async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
            return bytes(block_size)

    tree: Tree = {("lost",): RegularFile(capability(7))}
    error = fails(CorruptBlock, lambda: get_tree(Corrupt(), tree, tmp_path / "target"))
    assert error.__notes__ == ["while reading lost"]


def test_the_target_must_not_exist(tmp_path: Path) -> None:
    fails(TargetExists, lambda: get_tree(MemoryStore(), {}, tmp_path))


def test_a_few_blocks_that_stand_for_too_much(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        file = await put_content(store, bytes(1024 * 1024))
        tree: Tree = {(f"{number}",): RegularFile(file) for number in range(1000)}
        try:
            await get_tree(store, tree, tmp_path / "target", max_size=5 * 1024 * 1024)
        finally:
            written = sum(path.stat().st_size for path in (tmp_path / "target").iterdir())
            assert written <= 6 * 1024 * 1024

    fails(TreeTooLarge, run)


def test_a_file_without_end(tmp_path: Path) -> None:
    endless, blocks = bomb(40)
    tree: Tree = {("endless",): RegularFile(endless)}

    def get() -> Awaitable[None]:
        return get_tree(MemoryStore(blocks), tree, tmp_path / "target", max_size=10_000_000)

    fails(TreeTooLarge, get)
    assert (tmp_path / "target" / "endless").stat().st_size <= 10_000_000


def test_max_size_is_what_it_says(tmp_path: Path) -> None:
    lay_out({"a": File(b"12"), "b": File(b"345"), "c": Link("a")}, tmp_path / "source")

    async def run(max_size: int) -> None:
        store = MemoryStore()
        tree = await load(store, tmp_path / "source")
        await get_tree(store, tree, tmp_path / f"target{max_size}", max_size=max_size)

    asyncio.run(run(5))
    fails(TreeTooLarge, lambda: run(4))


def test_a_tree_made_by_hand(tmp_path: Path) -> None:
    async def run() -> None:
        store = MemoryStore()
        file = RegularFile(await put_content(store, b"x"), executable=True)
        tree: Tree = {("f",): file, ("l",): Symlink("f"), ("d",): EmptyDirectory()}
        await get_tree(
            store, await load_tree(store, await put_manifest(store, tree)), tmp_path / "t"
        )

    asyncio.run(run())
    assert read_back(tmp_path / "t") == {"f": File(b"x", executable=True), "l": Link("f"), "d": {}}

"""Trees whose files are known: never a wrong capability, never a missing block."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import eris_fs
from eris import (
    BlockSize,
    MemoryStore,
    ReadCapability,
    Reference,
    StoreRefused,
    StoreUnavailable,
    get_content,
)
from tests.fakes import RecordingStore


class DictCache:
    """A cache in a dict; the keys are SHA-256."""

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[bytes, bytes]] = {}

    def content_key(self, content: bytes) -> bytes:
        return hashlib.sha256(content).digest()

    def start_key(self) -> Any:
        return hashlib.sha256()

    def recall(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, bytes] | None]:
        return [self.known.get(key) for key in keys]

    def remember(self, contents: Sequence[tuple[bytes, tuple[bytes, bytes]]]) -> None:
        self.known.update(contents)


class ForgetfulStore(MemoryStore):
    """A store that loses blocks, and counts what is put."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.lost: set[Reference] = set()

    async def put(self, reference: Reference, block: bytes) -> None:
        self.puts += 1
        self.lost.discard(reference)
        await super().put(reference, block)

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        assert reference not in self.lost
        return await super().get(reference, block_size)

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        found = await super().find(references)
        return [
            there and name not in self.lost for name, there in zip(references, found, strict=True)
        ]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(40):
        (root / f"{number}").write_bytes(os.urandom(number * 1000))
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "again").write_bytes((root / "20").read_bytes())
    return root


async def encode(
    store: ForgetfulStore, cache: DictCache | None, root: Path
) -> tuple[ReadCapability, int]:
    before = store.puts
    known = None if cache is None else eris_fs.KnownContents(cache, store)
    capability = await eris_fs.put_tree(store, root, known=known)
    return capability, store.puts - before


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


async def check(store: ForgetfulStore, capability: ReadCapability, root: Path) -> None:
    tree = await eris_fs.load_tree(store, capability)
    for path, entry in tree.items():
        assert isinstance(entry, eris_fs.RegularFile)
        assert await get_content(store, entry.capability) == root.joinpath(*path).read_bytes()


def test_a_second_encode_sends_the_index_only(tree: Path) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        plain, _ = await encode(ForgetfulStore(), None, tree)
        first, sent = await encode(store, cache, tree)
        second, sent_again = await encode(store, cache, tree)
        assert plain == first == second
        assert sent > 100 and sent_again <= 8
        (tree / "17").write_bytes(b"changed")
        third, sent_third = await encode(store, cache, tree)
        assert third != first and sent_third <= 9
        await check(store, third, tree)

    run(main)


@pytest.mark.parametrize("lost", ["a leaf of a small file", "the root of the large file"])
def test_what_the_store_has_lost_is_encoded_again(tree: Path, lost: str) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        capability, _ = await encode(store, cache, tree)
        index = await eris_fs.load_tree(store, capability)
        path = ("20",) if "small" in lost else ("large",)
        entry = index[path]
        assert isinstance(entry, eris_fs.RegularFile)
        store.lost.add(entry.capability.root.reference)
        again, sent = await encode(store, cache, tree)
        assert again == capability and sent > 1 and not store.lost
        await check(store, again, tree)

    run(main)


def test_another_store_that_has_nothing_gets_everything(tree: Path) -> None:
    async def main() -> None:
        cache = DictCache()
        capability, sent = await encode(ForgetfulStore(), cache, tree)
        other = ForgetfulStore()
        again, sent_again = await encode(other, cache, tree)
        assert (again, sent_again) == (capability, sent)
        await check(other, again, tree)

    run(main)


@pytest.mark.parametrize("error", [StoreRefused("no FETCH here"), StoreUnavailable("busy")])
def test_a_store_that_cannot_tell_switches_the_cache_off(
    tree: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    class Dumb(ForgetfulStore):
        asked = 0

        async def find(self, references: Sequence[Reference]) -> list[bool]:
            self.asked += 1
            raise error

    async def main() -> None:
        cache = DictCache()
        await encode(ForgetfulStore(), cache, tree)
        store = Dumb()
        capability, sent = await encode(store, cache, tree)
        assert sent > 100
        await check(store, capability, tree)
        # Each batch under way at the time may have asked once, and none after that.
        assert 1 <= store.asked <= 8

    run(main)
    # The error of a store may name its URL.
    assert "does not tell what it has" in caplog.text
    assert str(error) not in caplog.text


def test_nonsense_in_the_cache_is_not_believed(tree: Path) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        capability, _ = await encode(store, cache, tree)
        for key, (_, references) in list(cache.known.items()):
            cache.known[key] = (b"\0" * 66, references)
        again, _ = await encode(store, cache, tree)
        assert again == capability

    run(main)


def test_a_file_that_changes_unseen_between_two_readings_is_not_remembered(tree: Path) -> None:
    large = tree / "large"

    class Meddler(DictCache):
        """Alters the large file after it was looked up, and sets its time back."""

        def recall(self, keys: Sequence[bytes]) -> Sequence[tuple[bytes, bytes] | None]:
            if keys == [hashlib.sha256(large.read_bytes()).digest()]:
                before = large.stat()
                large.write_bytes(bytes(before.st_size))
                os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
            return super().recall(keys)

    async def main() -> None:
        cache = Meddler()
        with pytest.raises(eris_fs.FileChanged):
            await encode(ForgetfulStore(), cache, tree)
        assert hashlib.sha256(large.read_bytes()).digest() not in cache.known

    run(main)


@pytest.mark.parametrize(("most", "times"), [(91, 2), (90, 0)])
def test_a_large_file_is_hashed_for_the_cache_alone_and_in_threads(
    tree: Path, monkeypatch: pytest.MonkeyPatch, most: int, times: int
) -> None:
    """Once to look it up, once while it is encoded; not at all if it has too many blocks."""
    monkeypatch.setattr("eris_fs.large._LARGEST_KNOWN", most)
    threads: list[list[int]] = []

    class Watched:
        def __init__(self) -> None:
            self.state = hashlib.sha256()
            self.digest = self.state.digest
            threads.append([])

        def update(self, piece: bytes) -> None:
            threads[-1].append(threading.get_ident())
            self.state.update(piece)

    class Watching(DictCache):
        def start_key(self) -> Any:
            return Watched()

    async def main() -> None:
        store, cache = ForgetfulStore(), Watching()
        capability, _ = await encode(store, cache, tree)
        await check(store, capability, tree)
        content = (tree / "large").read_bytes()
        assert (cache.content_key(content) in cache.known) == bool(times)

    run(main)
    assert len(threads) == times and all(threads)
    assert threading.get_ident() not in {one for each in threads for one in each}


def test_without_a_cache_the_store_is_not_asked(tree: Path) -> None:
    async def main() -> None:
        store = RecordingStore(MemoryStore())
        await eris_fs.put_tree(store, tree)
        assert not store.gets

    run(main)


@pytest.mark.parametrize("processors", [1, 8])
def test_on_however_many_processors_it_is_the_same(
    tree: Path, processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(processors))
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("17")

    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        plain = await eris_fs.put_tree(ForgetfulStore(), tree, concurrency=1)
        first, _ = await encode(store, cache, tree)
        assert first == plain
        again, sent = await encode(store, cache, tree)
        assert again == plain and sent <= 8
        # Some are known and some are not.
        for number in range(0, 40, 3):
            (tree / f"{number}").write_bytes(os.urandom(number * 900 + 1))
        changed, _ = await encode(store, cache, tree)
        assert changed == await eris_fs.put_tree(ForgetfulStore(), tree, concurrency=1) != plain

    run(main)


def test_they_are_noted_some_hundred_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(1200):
        (root / f"{number}").write_bytes(b"%d" % number)

    class Noting(DictCache):
        def __init__(self) -> None:
            super().__init__()
            self.noted: list[int] = []

        def remember(self, contents: Sequence[tuple[bytes, tuple[bytes, bytes]]]) -> None:
            self.noted.append(len(contents))
            super().remember(contents)

    async def main() -> None:
        store, cache = ForgetfulStore(), Noting()
        await encode(store, cache, root)
        assert sum(cache.noted) == len(cache.known) == 1200
        assert len(cache.noted) == 3

    run(main)


def test_what_was_sent_before_a_store_fails_is_noted(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}").write_bytes(os.urandom(300_000))

    class Failing(ForgetfulStore):
        async def put(self, reference: Reference, block: bytes) -> None:
            if self.puts == 150:
                raise StoreUnavailable("gone")
            await super().put(reference, block)

    async def main() -> None:
        store, cache = Failing(), DictCache()
        with pytest.raises(StoreUnavailable):
            known = eris_fs.KnownContents(cache, store)
            await eris_fs.put_tree(store, root, known=known, window=1)
        assert 0 < len(cache.known) < 20

    run(main)

"""`TreeReader` and `ContentReader`: what they tell and give is what is in the tree."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eris_fs
from eris import MemoryStore, StoreUnavailable, put_content
from eris_fs import (
    ContentReader,
    EntryInfo,
    IsADirectory,
    IsASymlink,
    Kind,
    NotADirectory,
    NotFound,
    PathError,
    RegularFile,
    TreeReader,
)
from tests.eris.helpers import make_content, run_clean
from tests.eris_fs.reader.sample import KINDS, sample
from tests.eris_fs.stores import BackwardStore
from tests.eris_fs.trees import capability
from tests.fakes import RecordingStore

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_entries_are_told_without_asking_the_store(kind: str) -> None:
    found = sample()

    async def run() -> None:
        async with await TreeReader.open(found.store, found.trees[kind]) as reader:
            assert [one.name for one in reader.entries("")] == ["link", "noise", "nothing", "text"]
            assert reader.entries("/") == reader.entries(".") == reader.entries(())
            assert [one.kind for one in reader.entries("")] == [
                Kind.SYMLINK,
                Kind.DIRECTORY,
                Kind.DIRECTORY,
                Kind.DIRECTORY,
            ]
            assert reader.info("link") == EntryInfo(("link",), Kind.SYMLINK, target="noise/1")
            assert reader.entries("nothing") == []
            assert [one.name for one in reader.entries("text")] == ["0", "1", "2"]
            names = [one.name for one in reader.entries("noise")]
            assert names == sorted(one.split("/")[1] for one in found.files if "noise" in one)
            assert reader.info("noise/1").executable
            assert not reader.info(("noise", "1024")).executable
            assert reader.info("") == EntryInfo((), Kind.DIRECTORY)
            assert reader.info("").name == ""

    run_clean(run())


@every_kind
def test_sizes_are_found_by_directory_and_kept(kind: str) -> None:
    found = sample()

    async def run() -> None:
        store = RecordingStore(found.store)
        async with await TreeReader.open(store, found.trees[kind]) as reader:
            store.gets.clear()
            is_packed = kind == "packed"
            assert (reader.info("noise/5000").size == 5000) is is_packed
            assert reader.info("noise").size is None
            assert reader.info("link").size is None
            together = await asyncio.gather(*(reader.sizes("noise") for _ in range(3)))
            expected = {
                path.split("/")[1]: len(content)
                for path, content in found.files.items()
                if path.startswith("noise/")
            }
            assert together == [expected] * 3
            assert bool(store.gets) is not is_packed
            # Once for all who ask; contents that end alike may share a block.
            assert len(store.gets) - len(set(store.gets)) <= 4
            store.gets.clear()
            assert await reader.sizes("noise") == expected
            assert await reader.size("noise/5000") == 5000
            assert {one.name: one.size for one in reader.entries("noise")} == expected
            assert await reader.sizes("") == await reader.sizes("nothing") == {}
            assert not store.gets

    run_clean(run())


@every_kind
def test_what_is_not_there_is_told_as_the_system_would(kind: str) -> None:
    found = sample()

    async def run() -> None:
        async with await TreeReader.open(found.store, found.trees[kind]) as reader:
            wrong: list[tuple[str, type[PathError], int]] = [
                ("nowhere", NotFound, errno.ENOENT),
                ("noise/nowhere", NotFound, errno.ENOENT),
                ("../noise/1", NotFound, errno.ENOENT),
                ("noise/1/below", NotADirectory, errno.ENOTDIR),
                ("link/below", NotADirectory, errno.ENOTDIR),
                ("noise", IsADirectory, errno.EISDIR),
                ("nothing", IsADirectory, errno.EISDIR),
                ("", IsADirectory, errno.EISDIR),
                ("link", IsASymlink, errno.ELOOP),
            ]
            for path, kind_of_error, number in wrong:
                for question in (reader.read(path, 0, 1), reader.size(path)):
                    with pytest.raises(kind_of_error) as caught:
                        await question
                    assert caught.value.errno == number
            with pytest.raises(IsASymlink, match="link is a symlink to noise/1"):
                await reader.read("link", 0, 1)
            with pytest.raises(NotFound, match="noise/nowhere is not in the tree"):
                reader.info("noise/nowhere")
            for path in ("noise/1", "link", "noise/1/below"):
                with pytest.raises(NotADirectory):
                    reader.entries(path)
                with pytest.raises(NotADirectory):
                    await reader.sizes(path)
            with pytest.raises(NotFound):
                reader.entries("nowhere")
            for offset, length in ((-1, 5), (5, -1)):
                with pytest.raises(ValueError, match="not a range"):
                    await reader.read("noise/1", offset, length)

    run_clean(run())


@pytest.mark.parametrize("put", [eris_fs.put_tree, eris_fs.put_packed_tree])
def test_a_tree_that_is_a_file(put: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"alone")

    async def run() -> None:
        store = MemoryStore()
        async with await TreeReader.open(store, await put(store, tmp_path / "file")) as reader:
            assert await reader.read("", 1, 3) == b"lon"
            assert await reader.size("") == 5
            assert reader.info("").kind is Kind.FILE
            with pytest.raises(NotADirectory):
                reader.entries("")

    run_clean(run())


def test_an_empty_tree_has_an_empty_top() -> None:
    async def run() -> None:
        async with TreeReader(MemoryStore(), {}) as reader:
            assert reader.entries("") == []
            assert reader.info("").kind is Kind.DIRECTORY

    run_clean(run())


def test_a_content_by_itself() -> None:
    async def run() -> None:
        store, content = MemoryStore(), make_content(3_000_000)
        found = await put_content(store, content)
        async with ContentReader(BackwardStore(store), found) as reader:
            assert await reader.size() == len(content)
            parts = await asyncio.gather(
                *(reader.read(at, 70_000) for at in range(0, len(content) + 100_000, 70_000))
            )
            assert b"".join(parts) == content
            assert await reader.read(0, 1 << 60) == content
            with pytest.raises(ValueError, match="not a range"):
                await reader.read(-1, 0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await reader.read(0, 1)

    run_clean(run())


def test_a_cache_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a cache of 1000 bytes"):
        TreeReader(MemoryStore(), {}, cache_size=1000)


def test_nothing_secret_is_shown() -> None:
    async def run() -> None:
        tree: dict[eris_fs.Path, RegularFile] = {("file",): RegularFile(capability(7))}
        async with TreeReader(MemoryStore(), tree) as reader:
            content = reader._content(capability(7))
            shown = f"{reader!r} {reader.info('file')!r} {content!r} {content.row!r}"
            assert capability(7).root.key.hex() not in shown
            assert str(bytes(capability(7).root.key)) not in shown

    run_clean(run())

"""Files too large to be held: known or not, sparse or not, alone and in trees."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import eris_fs
from eris import BlockSize, ConvergenceSecret, encode, get_content
from eris.model import NULL_CONVERGENCE_SECRET
from eris_fs import KnownContents, OpenFile, PutFile, put_file
from tests.eris_fs.test_known import DictCache, ForgetfulStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a hole in its middle."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(1_500_000))
        file.seek(6_000_000)
        file.write(os.urandom(1_500_000))
    return path


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def room_of(path: Path) -> int:
    """What it takes on the disk."""
    return path.stat().st_blocks * 512


async def put(
    store: ForgetfulStore,
    path: Path,
    cache: DictCache | None = None,
    secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
) -> tuple[PutFile, int, list[int]]:
    """Encode a file; also how many blocks were put, and what progress was told."""
    before, done = store.puts, list[int]()
    known = None if cache is None else KnownContents(cache, store)
    descriptor = os.open(path, os.O_RDONLY)
    with OpenFile(descriptor, str(path), os.fstat(descriptor)) as file:
        put = await put_file(
            store, file, convergence_secret=secret, known=known, finder=store, done=done.append
        )
    if known is not None:
        await known.remember(put.encoded)
    return put, store.puts - before, done


@pytest.mark.parametrize("secret", [NULL_CONVERGENCE_SECRET, ConvergenceSecret(b"s" * 32)])
def test_a_file_becomes_what_its_bytes_become(path: Path, secret: ConvergenceSecret) -> None:
    async def main() -> None:
        store, content = ForgetfulStore(), bytes_of(path)
        found, _, done = await put(store, path, secret=secret)
        assert found.capability == encode(content, convergence_secret=secret)[0]
        assert await get_content(store, found.capability) == content
        assert sum(done) == len(content)

    asyncio.run(main())


def test_a_file_that_is_known_is_not_sent_again(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        first, sent, _ = await put(store, path, cache)
        again, sent_again, done = await put(store, path, cache)
        assert again.capability == first.capability
        assert sent > 90 and sent_again == 0 and again.encoded == []
        assert done == [len(bytes_of(path))]
        # Known is the content: in a tree, too, whatever holes it has.
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "copy").write_bytes(bytes_of(path))
        before = store.puts
        await eris_fs.put_tree(store, tmp_path / "tree", known=KnownContents(cache, store))
        assert store.puts - before == 1

    asyncio.run(main())


def test_what_the_store_has_lost_is_sent_again(path: Path) -> None:
    async def main() -> None:
        store, cache = ForgetfulStore(), DictCache()
        first, _, _ = await put(store, path, cache)
        store.lost.add(first.capability.root.reference)
        again, sent, _ = await put(store, path, cache)
        assert again.capability == first.capability and sent >= 1
        assert store.lost == set()

    asyncio.run(main())


def test_without_a_cache_the_store_is_asked(path: Path) -> None:
    async def main() -> None:
        store = ForgetfulStore()
        await put(store, path)
        _, sent, _ = await put(store, path)
        # The last question is not worth asking.
        assert sent <= 2

    asyncio.run(main())


def test_a_restored_tree_has_its_holes(path: Path, tmp_path: Path) -> None:
    if room_of(path) > 4_000_000:
        pytest.skip("this file system keeps no holes")

    async def main() -> None:
        store = ForgetfulStore()
        standard, packed = eris_fs.put_tree(store, path), eris_fs.put_packed_tree(store, path)
        for number, capability in enumerate((await standard, await packed)):
            out = tmp_path / f"out{number}"
            tree = await eris_fs.load_tree(store, capability)
            await eris_fs.get_tree(store, tree, out)
            assert bytes_of(out) == bytes_of(path)
            assert room_of(out) < 4_000_000

    asyncio.run(main())


def test_the_size_of_blocks_is_that_of_the_length(tmp_path: Path) -> None:
    async def main() -> None:
        for size, expected in ((16 * 1024 - 1, BlockSize.SMALL), (16 * 1024, BlockSize.LARGE)):
            (tmp_path / "f").write_bytes(bytes(size))
            found, _, _ = await put(ForgetfulStore(), tmp_path / "f")
            assert found.capability.block_size is expected

    asyncio.run(main())

"""How far an upload is: what counts is what the store has confirmed, and all of it in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eris import BlockSize, MemoryStore, ReadCapability, Reference, encode, put_content
from eris_fs import Share, Whole, put_packed_tree, put_tree
from tests.eris_fs.trees import File, Node, lay_out

MIB = 1024 * 1024
SIZES = [0, 1, 700, 1024, 20_000, 40_000, 3 * MIB]
TREE: dict[str, Node] = {
    "same": File(random.Random(700).randbytes(700)),
    **{str(size): File(random.Random(size).randbytes(size)) for size in SIZES},
}
TOTAL = sum(SIZES) + 700

Put = Callable[..., Coroutine[Any, Any, ReadCapability]]


class Holding(MemoryStore):
    """Confirms nothing of what it gets before it is told to; `get` and `find` are as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[asyncio.Future[None]] = []
        self.is_open = False
        self.got = asyncio.Event()

    def put(  # type: ignore[override]
        self, reference: Reference, block: bytes
    ) -> Awaitable[None]:
        self.got.set()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_open:
            future.set_result(None)
        else:
            self.held.append(future)
        return future

    def let_go(self) -> None:
        self.is_open = True
        for future in self.held:
            if not future.done():
                future.set_result(None)


async def told_while_held(put: Callable[[Holding], Coroutine[Any, Any, Any]]) -> None:
    """Run an upload into a store that confirms nothing until it has got all that it is to get."""
    store = Holding()
    task = asyncio.ensure_future(put(store))
    await asyncio.wait_for(store.got.wait(), 30)
    for _ in range(100):
        # Whatever would be told too early has its turn.
        await asyncio.sleep(0)
    store.let_go()
    await asyncio.wait_for(task, 30)


def test_a_content_counts_when_it_is_kept() -> None:
    told: list[tuple[bool, int]] = []

    async def put(store: Holding) -> None:
        await put_content(
            store, bytes(3 * MIB), kept=lambda size: told.append((store.is_open, size))
        )

    asyncio.run(told_while_held(put))
    assert all(is_open for is_open, _ in told)
    # But for padding and the last node of each level.
    assert 3 * MIB <= sum(size for _, size in told) <= 3 * MIB + 2 * BlockSize.LARGE


@pytest.mark.parametrize("put", [put_tree, put_packed_tree], ids=["plain", "packed"])
def test_a_tree_counts_when_it_is_kept(tmp_path: Path, put: Put) -> None:
    lay_out(TREE, tmp_path / "tree")
    told: list[tuple[bool, int, int]] = []

    async def run(store: Holding) -> None:
        def progress(files: int, size: int) -> None:
            told.append((store.is_open, files, size))

        await put(store, tmp_path / "tree", progress=progress)

    asyncio.run(told_while_held(run))
    before = [(files, size) for is_open, files, size in told if not is_open]
    assert not before
    steps = [(files, size) for _, files, size in told]
    assert steps == sorted(steps)
    # Files of equal content have one place in a packed tree.
    total = TOTAL if put is put_tree else TOTAL - 700
    assert told[-1][2] == total


def test_what_is_found_counts_too() -> None:
    async def run() -> None:
        store = MemoryStore()
        content = bytes(random.Random(1).randbytes(3 * MIB))
        await put_content(store, content)
        told: list[int] = []
        await put_content(store, content, finder=store, kept=told.append)
        assert 3 * MIB <= sum(told) <= 3 * MIB + 2 * BlockSize.LARGE

    asyncio.run(run())


def test_a_share_comes_to_the_whole() -> None:
    told: list[tuple[int, int]] = []
    blocks = list(encode(bytes(6000), block_size=BlockSize.SMALL)[1].items())
    share = Share(3, 1000, blocks, lambda files, size: told.append((files, size)))
    for _ in blocks:
        assert sum(files for files, _ in told) == 0
        share.keep(1024 - 64)
    assert (sum(files for files, _ in told), sum(size for _, size in told)) == (3, 1000)
    told.clear()
    Share(2, 5, [], lambda files, size: told.append((files, size)))
    assert told == [(2, 5)]


@pytest.mark.parametrize("size", [1000, None])
def test_a_whole_comes_to_its_size(size: int | None) -> None:
    told: list[int] = []
    whole = Whole(size, told.append)
    for _ in range(2):
        whole.keep(960)
    assert sum(told) == (1920 if size is None else 1000)
    whole.finish(1000)
    assert sum(told) == 1000

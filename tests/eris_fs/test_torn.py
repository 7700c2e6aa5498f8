"""A file that is written to while a tree is encoded, its times put back: never taken as whole."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from eris import BlockWriter, MemoryStore
from eris_fs import FileChanged, KnownContents, put_packed_tree, put_tree
from tests.eris_fs.stores import HookedStore, NothingKnown

# More than both read ahead of what they send.
_SIZE = 12 << 20


async def _with_cache(store: BlockWriter, root: Path) -> object:
    nothing = NothingKnown()
    return await put_tree(store, root, known=KnownContents(nothing, nothing))


async def _packed(store: BlockWriter, root: Path) -> object:
    return await put_packed_tree(store, root, level=1, concurrency=1)


@pytest.mark.parametrize("put", [put_tree, _with_cache, _packed], ids=["tree", "cache", "packed"])
def test_torn(tmp_path: Path, put: Callable[[BlockWriter, Path], Awaitable[object]]) -> None:
    path = tmp_path / "in" / "f"
    path.parent.mkdir()
    path.write_bytes(random.Random(1).randbytes(_SIZE))
    os.utime(path, (1.5e9, 1.5e9))

    def write(request: int) -> None:
        if request:
            return
        before = os.stat(path)
        with path.open("r+b") as file:
            file.write(b"B" * 1000)
            file.seek(_SIZE - 1000)
            file.write(b"B" * 1000)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(FileChanged, match="time of change"):
        asyncio.run(put(HookedStore(MemoryStore(), write), path.parent))  # type: ignore[arg-type]

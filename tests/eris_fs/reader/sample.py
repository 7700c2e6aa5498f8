"""A tree to read from, in both kinds and with both block sizes, made once for all tests."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import eris_fs
from eris import BlockSize, MemoryStore, ReadCapability

__all__ = ["KINDS", "Sample", "sample"]

KINDS = ("plain", "small blocks", "packed")

# Around blocks, nodes and spans; what compresses, and what does not.
_SIZES = [0, 1, 1023, 1024, 5000, 16383, 16384, 32767, 40_000, 300_000, 1 << 20, 2_600_000]


@dataclass(frozen=True)
class Sample:
    """What is in the tree by path, and the tree in a store, in each kind."""

    files: dict[str, bytes]
    store: MemoryStore
    trees: dict[str, ReadCapability]


@cache
def sample() -> Sample:
    """Make it, the first time."""
    files = {}
    for number, size in enumerate(_SIZES):
        files[f"noise/{size}"] = random.Random(size).randbytes(size)
        text = b"".join(b"%d:%d " % (number, at) for at in range(size // 4 + 1))
        files[f"text/{number % 3}/{size}"] = text[:size]
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        (root / "noise" / "1").chmod(0o755)
        (root / "link").symlink_to("noise/1")
        (root / "nothing").mkdir()
        trees = {
            "plain": asyncio.run(eris_fs.put_tree(store, root)),
            "small blocks": asyncio.run(eris_fs.put_tree(store, root, block_size=BlockSize.SMALL)),
            "packed": asyncio.run(eris_fs.put_packed_tree(store, root, level=1)),
        }
    return Sample(files, store, trees)

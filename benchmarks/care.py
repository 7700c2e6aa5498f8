"""A scrub by the daemon, against a bare loop that reads and hashes the same blocks.

The bare side is one process that does nothing else: it reads the rows of the same file in their
order and computes the hash of each block. Ours is what `kapla scrub` waits for: the request, all
blocks looked at in a thread of the daemon, the answer. The file is in the page cache on both sides,
so that the disk is not what is measured.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import kaplad
from eris import BlockSize, reference_of
from kapla.caring import scrub
from kapla.client import RemoteStore
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.writer import SqliteWriter
from kapla.urls import parse_store_url

__all__ = ["run"]

_BLOCKS: Final = {BlockSize.SMALL: 200_000, BlockSize.LARGE: 16_000}
_BATCH: Final = 4 * 1024 * 1024
_BAR: Final = 0.7


def run(rounds: int) -> list[Row]:
    """Measure a store of blocks of each size."""
    return [_measure(size, count, rounds) for size, count in _BLOCKS.items()]


def _measure(size: BlockSize, count: int, rounds: int) -> Row:
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="kb-") as scratch:
        path = Path(scratch) / "b.sqlite"
        _fill(path, size, count)
        with kaplad(Path(scratch)) as (url, _, _):
            for _ in range(rounds):
                bare.append(count * size / 1e6 / _read_and_hash(path))
                ours.append(count * size / 1e6 / asyncio.run(_scrub(url, count)))
    return compare(f"scrub / bare loop, {size.label}", ours, bare, "MB/s", _BAR)


def _fill(path: Path, size: BlockSize, count: int) -> None:
    source = random.Random(0)
    with closing(SqliteWriter(open_database(SqliteSettings(path)))) as writer:
        for start in range(0, count, _BATCH // size):
            many = min(_BATCH // size, count - start)
            blocks = [source.randbytes(size) for _ in range(many)]
            writer.put_many({reference_of(block): block for block in blocks})


def _read_and_hash(path: Path) -> float:
    begin = time.perf_counter()
    with closing(sqlite3.connect(path)) as connection:
        for reference, block in connection.execute("SELECT reference, block FROM blocks"):
            assert blake2b(block, digest_size=32).digest() == reference
    return time.perf_counter() - begin


async def _scrub(url: str, count: int) -> float:
    async with RemoteStore(parse_store_url(url)) as store:
        await store.connect()
        begin = time.perf_counter()
        found = await scrub(store)
        assert (found.blocks, found.bad) == (count, 0)
        return time.perf_counter() - begin


if __name__ == "__main__":
    print(heading())
    for row in run(5):
        print(format_row(row))

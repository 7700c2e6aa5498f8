"""SQLite stores to test with: opened in one line, closed at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from eris import BlockSize, ErisError, Reference, reference_of
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from kapla.storage.port import StoreSettings
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.recent import GENERATION
from kapla.storage.sqlite.writer import SqliteReader, SqliteWriter

__all__ = [
    "Sessions",
    "batched",
    "forge",
    "get_many",
    "make_blocks",
    "opened",
    "put_many",
    "settings_for",
    "under_pin",
]


class Sessions(NamedTuple):
    """The two ends of one open store."""

    writer: SqliteWriter
    reader: SqliteReader


def settings_for(
    directory: Path,
    *,
    max_size: int | None = None,
    max_pinned: int | None = None,
    generation: int = GENERATION,
    rebuild_index: bool = False,
    min_free: int | None = None,
    when_full: Literal["evict", "refuse"] = "evict",
    lend_cache: bool = True,
) -> SqliteSettings:
    """A store named `blocks.sqlite` in a directory."""
    return SqliteSettings(
        directory / "blocks.sqlite",
        max_size=max_size,
        max_pinned=max_pinned,
        generation=generation,
        rebuild_index=rebuild_index,
        min_free=min_free,
        when_full=when_full,
        lend_cache=lend_cache,
    )


@contextmanager
def opened(settings: SqliteSettings) -> Iterator[Sessions]:
    """One writer and one reader, in this thread."""
    database = open_database(settings)
    with closing(SqliteWriter(database)) as writer, closing(SqliteReader(database)) as reader:
        yield Sessions(writer, reader)


@asynccontextmanager
async def batched(settings: StoreSettings) -> AsyncIterator[BatchedStorage]:
    """The store behind its threads."""
    storage = BatchedStorage(settings)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


def make_blocks(
    count: int, size: BlockSize = BlockSize.SMALL, seed: int = 0
) -> dict[Reference, bytes]:
    """Blocks under their references, always the same ones for a seed."""
    source = random.Random(f"{seed} {size}")
    blocks = (source.randbytes(size) for _ in range(count))
    return {reference_of(block): block for block in blocks}


def forge(prefix: int, number: int, size: BlockSize = BlockSize.SMALL) -> tuple[Reference, bytes]:
    """A made-up block whose reference begins with these eight bytes: the layers below the hash
    take its word for it."""
    reference = Reference(prefix.to_bytes(8, "big") + number.to_bytes(24, "big"))
    return reference, number.to_bytes(8, "big") * (size // 8)


async def put_many(
    storage: BatchedStorage, blocks: Sequence[bytes]
) -> Sequence[ErisError | None] | ErisError | None:
    """Hand blocks in; returns what the store says of them."""
    answer: asyncio.Future[Sequence[ErisError | None] | ErisError | None]
    answer = asyncio.get_running_loop().create_future()
    storage.put_many(blocks, answer.set_result)
    return await answer


async def under_pin(storage: BatchedStorage, blocks: Sequence[bytes], pin: OpenPin) -> None:
    """Hand blocks in under an open pin.

    Raises: what the store says of them, if it keeps none.
    """
    answer: asyncio.Future[Sequence[ErisError | None] | ErisError | None]
    answer = asyncio.get_running_loop().create_future()
    storage.put_many(blocks, answer.set_result, hold=pin.hold)
    error = await answer
    if isinstance(error, ErisError):
        raise error
    assert error is None


async def get_many(
    storage: BatchedStorage, references: Sequence[Reference]
) -> Sequence[bytes | None] | ErisError:
    """Ask for blocks; returns what the store says."""
    answer: asyncio.Future[Sequence[bytes | None] | ErisError]
    answer = asyncio.get_running_loop().create_future()
    storage.get_many(references, answer.set_result)
    return await answer

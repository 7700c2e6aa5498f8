"""Moving the blocks of contents out of a store: which there are, which are wanted, getting these.

Three steps, each an asynchronous generator over the one before it. Internal nodes are read while it
is found out what there is, and not asked for again. Memory is bounded: by what is under way, and a
few thousand references ahead of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

import eris_fs
from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.crypto import reference_of
from eris.errors import CorruptBlock, StoreRefused
from eris.model import EncodedBlock, Reference
from eris.threads import withdraw
from kapla.cli.common import CommandError, ExitCode, Store
from kapla.cli.content import Kind, kind_of, load_tree

__all__ = ["Has", "Moved", "move_blocks", "presence", "refusals_of"]

Has = Callable[[Sequence[Reference]], Awaitable[list[bool]]]
"""Tells which of some blocks are where they should go."""

# What is asked about together, and how many bytes of internal nodes wait with it.
_BATCH: Final = 4096
_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCHES_AHEAD: Final = 2
# GETs in flight: 8 MiB.
_WINDOW: Final = 256


@dataclass(slots=True)
class Moved:
    """What was moved, and what was not as it was there."""

    blocks: int = 0
    bytes: int = 0
    present: int = 0

    def sentence(self, verb: str) -> str:
        """What to tell a person."""
        noun = "block" if self.blocks == 1 else "blocks"
        there = f", {self.present:,} were there" if self.present else ""
        return f"{self.blocks:,} {noun} {verb} ({self.bytes:,} bytes){there}"


@contextmanager
def refusals_of(store: Store) -> Iterator[None]:
    """Name the store where it refuses: of two that are at work, the error does not say which."""
    try:
        yield
    except StoreRefused as error:
        where = ", ".join(map(str, store.urls))
        raise CommandError(f"{where}: {error}", ExitCode.REFUSED) from error


async def move_blocks(
    source: Store, contents: Sequence[ReadCapability], has: Has, moved: Moved, *, raw: bool
) -> AsyncGenerator[list[EncodedBlock], None]:
    """Give the blocks of contents and trees that are lacking there, each checked; counts them.

    `raw`: of a tree only the index. What a content repeats may come again.
    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound, ContentError, StoreError; CommandError.
    """
    batches = _lacking(_batches(source, contents, raw), has, moved)
    async with (
        run_ahead(batches, _BATCHES_AHEAD) as next_batch,
        aclosing(_fetched(source, next_batch)) as pieces,
    ):
        async for piece in pieces:
            moved.blocks += len(piece)
            moved.bytes += sum(len(block) for _, block in piece)
            yield piece


def presence(target: Store) -> Has:
    """What a store has: nothing, as far as we know, if it cannot tell; then all is put."""
    can_tell = True

    async def has(references: Sequence[Reference]) -> list[bool]:
        nonlocal can_tell
        if can_tell:
            try:
                return await target.find(references)
            except StoreRefused:
                can_tell = False
        return [False] * len(references)

    return has


async def _batches(
    source: Store, contents: Sequence[ReadCapability], raw: bool
) -> AsyncGenerator[list[eris_fs.FoundBlock], None]:
    batch: list[eris_fs.FoundBlock] = []
    held = 0
    for capability in contents:
        async with aclosing(_walk(source, capability, raw)) as runs:
            async for run in runs:
                batch += run
                held += sum(len(found.block) for found in run if found.block is not None)
                if len(batch) >= _BATCH or held >= _BATCH_BYTES:
                    yield batch
                    batch, held = [], 0
    if batch:
        yield batch


async def _walk(
    source: Store, capability: ReadCapability, raw: bool
) -> AsyncGenerator[list[eris_fs.FoundBlock], None]:
    with refusals_of(source):
        async with aclosing(eris_fs.walk_contents(source, [capability])) as runs:
            async for run in runs:
                yield run
        if raw or await kind_of(source, capability) is not Kind.TREE:
            return
        tree = await load_tree(source, capability)
        async with aclosing(eris_fs.walk_contents(source, eris_fs.contents_of(tree))) as runs:
            async for run in runs:
                yield run


async def _lacking(
    batches: AsyncGenerator[list[eris_fs.FoundBlock], None], has: Has, moved: Moved
) -> AsyncGenerator[list[eris_fs.FoundBlock], None]:
    async with aclosing(batches):
        async for batch in batches:
            distinct = list({found.reference: found for found in batch}.values())
            there = await has([found.reference for found in distinct])
            moved.present += sum(there)
            lacking = [one for one, is_there in zip(distinct, there, strict=True) if not is_there]
            if lacking:
                yield lacking


async def _fetched(
    source: Store, next_batch: Callable[[], Awaitable[list[eris_fs.FoundBlock] | None]]
) -> AsyncGenerator[list[EncodedBlock], None]:
    in_flight: deque[tuple[Reference, asyncio.Future[bytes] | bytes]] = deque()
    try:
        while (batch := await next_batch()) is not None:
            for found in batch:
                if len(in_flight) >= _WINDOW:
                    # In runs: that is cheaper than one by one.
                    with refusals_of(source):
                        piece = await _take(in_flight, _WINDOW // 2)
                    yield piece
                got = found.block or asyncio.ensure_future(
                    source.get(found.reference, found.block_size)
                )
                in_flight.append((found.reference, got))
        while in_flight:
            with refusals_of(source):
                piece = await _take(in_flight, _WINDOW // 2)
            yield piece
    finally:
        withdraw(got for _, got in in_flight if not isinstance(got, bytes))


async def _take(
    in_flight: deque[tuple[Reference, asyncio.Future[bytes] | bytes]], most: int
) -> list[EncodedBlock]:
    """The oldest of what is under way, and as many behind it as are there by now."""
    taken: list[EncodedBlock] = []
    while in_flight and len(taken) < most:
        reference, got = in_flight[0]
        if not isinstance(got, bytes):
            if taken and not got.done():
                break
            # Awaited where it stands, so that an interruption finds it in the queue.
            got = await got
            if reference_of(got) != reference:
                raise CorruptBlock(reference)
        in_flight.popleft()
        taken.append((reference, got))
    return taken

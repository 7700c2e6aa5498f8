"""A delta into a store: the shell that joins reading, matching, compression, codec and store.

First both trees are compared, which reads all of the new one; then what is new is read once more
and compressed, patch by patch. Patches go into a temporary file, since the index, which tells how
large they are, stands before them. Whatever the trees, no more is in memory than the patches under
way, and the entries.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from eris import node
from eris.capability import ReadCapability
from eris.model import NULL_CONVERGENCE_SECRET, ConvergenceSecret, Reference
from eris.store import BlockWriter
from eris.threads import in_thread, settle
from eris.transfer import DEFAULT_WINDOW, put_content
from eris_fs.delta.files import TreeFiles
from eris_fs.delta.framing import DeltaHead, format_start
from eris_fs.delta.index import format_delta_index
from eris_fs.delta.likeness import Likeness
from eris_fs.delta.model import BaseFile, BaseRange, DeltaEntry, DeltaTree, Patch
from eris_fs.delta.patching import cut_stream
from eris_fs.delta.ranges import read_ranges
from eris_fs.delta.same import Hashing, Same, find_same
from eris_fs.delta.squeeze import Squeezed, memory_for, squeeze
from eris_fs.delta.temporary import temporary_file_named
from eris_fs.errors import DeltaTooLarge, FileChanged, TreeTooLarge
from eris_fs.model import DEFAULT_LIMITS, Limits, PackedFile, show_path
from eris_fs.outline import ListingHash, Outline, OutlineFile
from eris_fs.packed.cost import choose_by_cost
from eris_fs.packed.frame import MAX_LEVEL
from eris_fs.progress import Progress
from eris_fs.stages import processors
from eris_fs.zstd import zstd_version

__all__ = ["DELTA_LEVEL", "PutDelta", "put_delta"]

DELTA_LEVEL: Final = 19
"""A delta is made once; what of it a lower level makes as small is made at that."""

# Two of the largest patches at level 19: so a process stays below 300 MiB, whatever it does beside.
_MEMORY: Final = 200 * 1024 * 1024
_SPOOLED: Final = 8 * 1024 * 1024
_STEP: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PutDelta:
    """What became of a delta: its capability, and what the store was given, each block once."""

    capability: ReadCapability = field(repr=False)
    block_bytes: int
    blocks: int


async def put_delta(
    store: BlockWriter,
    base: TreeFiles,
    new: TreeFiles,
    *,
    level: int = DELTA_LEVEL,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
    concurrency: int | None = None,
    progress: Progress | None = None,
    most: int | None = None,
) -> PutDelta:
    """Encode into a store what leads from one tree to another; done when all of it is kept.

    The same two trees have the same capability for the same level and zstd library. `level` is the
    most that is used. `concurrency` is how many patches are compressed at once, as long as there is
    memory for it; without it, as many as processors. `most` is how many bytes of blocks there may
    be: a delta of more is left as soon as that shows, and nothing of it is put. If a file of the
    base is changed in place meanwhile, that shows only when the delta is applied.
    Raises: UnsupportedEntry, FileChanged, TreeTooLarge, StoreError; DeltaTooLarge; BlockNotFound,
    ContentError, of trees in a store; OSError.
    """
    if not 1 <= level <= MAX_LEVEL:
        raise ValueError(f"zstd has no level {level}")
    if new.outline.size > limits.content_size:
        raise TreeTooLarge("bytes of files", limits.content_size)
    encoding = _Encoding(base, new, level, progress, most)
    at_once = concurrency or processors()
    counting = _Counting(store)
    # All other files are named by their errors.
    with temporary_file_named(), tempfile.SpooledTemporaryFile(_SPOOLED) as spool:
        await encoding.run(spool, at_once)
        start, size = await in_thread(encoding.start, limits)
        spool.seek(0)
        block_size = choose_by_cost(len(start) + size)
        encoding.check(node.block_count(len(start) + size, block_size) * block_size)
        async with aclosing(_content(start, spool)) as pieces:
            capability = await put_content(
                counting,
                pieces,
                block_size=block_size,
                convergence_secret=convergence_secret,
                window=window,
            )
    return PutDelta(capability, counting.size, len(counting.seen))


class _Spool(Protocol):
    """A file that patches are written to, and read from."""

    def write(self, data: bytes, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


async def _content(start: bytes, spool: _Spool) -> AsyncGenerator[bytes, None]:
    yield start
    while piece := await in_thread(spool.read, _STEP):
        yield piece


class _Counting:
    """A store that knows what it was given."""

    def __init__(self, store: BlockWriter) -> None:
        self._store = store
        self.get = store.get
        self.seen: set[Reference] = set()
        self.size = 0

    async def put(self, reference: Reference, block: bytes) -> None:
        if reference not in self.seen:
            self.seen.add(reference)
            self.size += len(block)
        await self._store.put(reference, block)


@dataclass(frozen=True, slots=True)
class _Job:
    """A patch to be made: of what, with what before it, and the ranges that this is."""

    data: bytes = field(repr=False)
    prefix: bytes = field(repr=False)
    ranges: Sequence[BaseRange]
    files: int


class _Encoding:
    """One delta that is being made."""

    def __init__(
        self,
        base: TreeFiles,
        new: TreeFiles,
        level: int,
        progress: Progress | None,
        most: int | None,
    ) -> None:
        self._base = base
        self._new = new
        self._level = level
        self._progress = progress
        self._most = most
        self._same: Same | None = None
        self._patches: list[Patch] = []
        self._stored_size = 0
        self._files = self._done = 0

    async def run(self, spool: _Spool, at_once: int) -> None:
        """Compare the trees, and write all patches, in order."""
        same = self._same = await find_same(self._base, self._new)
        sizes = self._new.outline.sizes
        stream = [file for file, size in enumerate(sizes) if size and same.is_new(file)]
        self._count(len(sizes) - len(stream), sum(sizes) - sum(sizes[file] for file in stream))
        likeness = Likeness(self._base, self._new)
        await likeness.find(stream)
        async with aclosing(self._jobs(same, likeness, stream)) as jobs:
            await self._squeeze_all(jobs, spool, at_once)

    async def _jobs(
        self, same: Same, likeness: Likeness, stream: Sequence[int]
    ) -> AsyncGenerator[_Job, None]:
        checking = _Checking(self._new.outline, same.digests)
        base_sizes = self._base.outline.sizes
        for pieces in cut_stream(self._new.outline.sizes, stream, likeness.like, base_sizes):
            ranges = await likeness.ranges_for(pieces)
            data = await read_ranges(self._new, pieces)
            await in_thread(checking.take, pieces, data)
            prefix = await read_ranges(self._base, ranges)
            files = sum(one.offset == 0 for one in pieces)
            yield _Job(data, prefix, ranges, files)
            del data, prefix

    async def _squeeze_all(self, jobs: AsyncIterator[_Job], spool: _Spool, at_once: int) -> None:
        """Compress some patches at once, and write them in order."""
        under_way: deque[tuple[_Job, asyncio.Task[Squeezed]]] = deque()
        try:
            async for job in jobs:
                wanted = _memory(job)
                while under_way and (
                    len(under_way) >= at_once
                    or wanted + sum(_memory(other) for other, _ in under_way) > _MEMORY
                ):
                    await self._write_oldest(under_way, spool)
                call = in_thread(squeeze, job.data, job.prefix, self._level)
                under_way.append((job, asyncio.create_task(call)))
                del job
            while under_way:
                await self._write_oldest(under_way, spool)
        finally:
            for _, task in under_way:
                task.cancel()
            await settle(*(task for _, task in under_way))

    async def _write_oldest(
        self, under_way: deque[tuple[_Job, asyncio.Task[Squeezed]]], spool: _Spool
    ) -> None:
        # Awaited where it stands, so that an interruption finds it there.
        job, task = under_way[0]
        made = await task
        under_way.popleft()
        await in_thread(spool.write, made.stored)
        ranges = tuple(job.ranges) if made.prefixed else ()
        self._patches.append(Patch(len(job.data), len(made.stored), ranges))
        self._stored_size += len(made.stored)
        self.check(self._stored_size)
        self._count(job.files, len(job.data))

    def check(self, size: int) -> None:
        """See that so many bytes are not too many. Raises: DeltaTooLarge."""
        if self._most is not None and size > self._most:
            raise DeltaTooLarge(self._most)

    def start(self, limits: Limits) -> tuple[bytes, int]:
        """Make what stands before the patches, and tell how large these are.

        For a worker thread.
        Raises: TreeTooLarge.
        """
        assert self._same is not None
        if len(self._patches) > limits.packs:
            raise TreeTooLarge("patches", limits.packs)
        outline = self._new.outline
        entries = dict(_entries(outline, self._base.outline, self._same))
        tree = DeltaTree(entries, self._patches, f"zstd {zstd_version} level {self._level}")
        index = format_delta_index(tree, self._base.outline, limits)
        listing = ListingHash(outline)
        for digest in self._same.digests:
            listing.add(digest)
        head = DeltaHead(
            self._base.outline.digest(),
            listing.digest(),
            len(outline),
            outline.size,
            sum(patch.size for patch in self._patches),
            len(index),
        )
        return format_start(head, self._stored_size) + index, self._stored_size

    def _count(self, files: int, size: int) -> None:
        self._files += files
        self._done += size
        if self._progress is not None:
            self._progress(self._files, self._done)


class _Checking:
    """Sees to it that what is read the second time is what was read the first time."""

    def __init__(self, outline: Outline, digests: Sequence[bytes]) -> None:
        self._outline = outline
        self._digests = digests
        self._hashing = Hashing()

    def take(self, pieces: Sequence[BaseRange], data: bytes) -> None:
        """Look at the next pieces. Raises: FileChanged."""
        self._hashing.take(pieces, data)
        for one in pieces:
            file = one.file
            if one.offset + one.length < self._outline.sizes[file]:
                continue
            if self._hashing.digest(file) != self._digests[file]:
                where = show_path(self._outline.files[file])
                raise FileChanged(where, "its content is another than a moment ago")


def _memory(job: _Job) -> int:
    return memory_for(len(job.data), len(job.prefix))


def _entries(
    outline: Outline, base: Outline, same: Same
) -> Iterable[tuple[tuple[str, ...], DeltaEntry]]:
    """The entries of the new tree, as the delta has them."""
    places: dict[int, int] = {}
    position = file = 0
    for path, entry in outline.items():
        if not isinstance(entry, OutlineFile):
            yield path, entry
            continue
        size, executable = entry.size, entry.executable
        if file in same.base:
            number = same.base[file]
            yield path, BaseFile(number, base.sizes[number], executable)
        elif file in same.again:
            yield path, PackedFile(places[same.again[file]], size, executable)
        else:
            places[file] = position
            yield path, PackedFile(position if size else 0, size, executable)
            position += size
        file += 1

"""Whole trees into a store and out of it: the shell that joins scan, codec, store and restore.

Worker threads read and encode, or write, many files a call; the event loop only sends and receives
blocks, many at a time. A few batches are under way at once, so that reading, encoding and sending
overlap, and memory is what they hold, however large the tree. Only the list of entries grows.
"""

from __future__ import annotations

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterator,
)
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from eris.capability import ReadCapability
from eris.model import (
    NULL_CONVERGENCE_SECRET,
    BlockSize,
    ConvergenceSecret,
    choose_block_size,
)
from eris.store import BlockReader, BlockWriter
from eris.threads import in_thread
from eris.transfer import DEFAULT_WINDOW as _LARGE_WINDOW
from eris.transfer import PutWindow, put_content, stream_content
from eris_fs.batch import Batch, BatchReader, EncodedBatch, SizeRule, encode_batch
from eris_fs.contents import read_files
from eris_fs.delta.framing import looks_like_delta
from eris_fs.errors import InvalidManifest, TreeError, TreeTooLarge
from eris_fs.fetch import DEFAULT_WINDOW, FilePiece
from eris_fs.known import KnownContents
from eris_fs.large import put_file
from eris_fs.manifest import MAGIC, ManifestReader, format_manifest
from eris_fs.model import (
    DEFAULT_LIMITS,
    Entry,
    Limits,
    PackedFile,
    PackedTree,
    Path,
    RegularFile,
    Tree,
)
from eris_fs.outline import Outline
from eris_fs.packed.index import PackedIndexReader, looks_packed
from eris_fs.progress import Progress, Share
from eris_fs.restore import Restorer
from eris_fs.scan import OpenFile, Root
from eris_fs.selection import EVERYTHING, Selection
from eris_fs.stages import run_stages
from eris_fs.threads import OneBehind

__all__ = [
    "DEFAULT_CONCURRENCY",
    "Progress",
    "get_files",
    "get_tree",
    "load_tree",
    "put_manifest",
    "put_tree",
    "read_tree",
]

DEFAULT_CONCURRENCY: Final = 2
"""Batches being encoded at once. The cipher holds Python's lock half of the time: a third thread
gains nothing."""

# On so few the thread that reads also encodes: the event loop and the store have enough for the
# other, and a third thread would only add a third more waits for Python's lock.
_FEW_PROCESSORS: Final = 2

# How much of a large file is read, and how much is written, in one step.
_STEP: Final = 1024 * 1024
_STEP_PIECES: Final = 256


async def put_tree(
    store: BlockWriter,
    root: Root,
    *,
    block_size: BlockSize | SizeRule | None = None,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
    concurrency: int | None = None,
    progress: Progress | None = None,
    known: KnownContents | None = None,
    selection: Selection = EVERYTHING,
) -> ReadCapability:
    """Encode the tree at `root` into a store; returns its capability when all blocks are kept.

    The same tree has the same capability, whoever encodes it. A root that is a file or a symlink
    (which is not followed) is a tree of one entry. `block_size` and secret hold for every file and
    for the index; without `block_size`, each has what its length asks for by the rule of other
    programs, or by a rule that is given. What is `known` is read
    but neither encrypted nor sent again. `concurrency` is how many batches are encoded at once;
    without it two, or on one or two processors one, by the thread that reads. What is taken of what
    is there, and several roots: see `scan_tree`.
    Raises: UnsupportedEntry, FileChanged, TreeTooLarge, StoreError; OSError.
    """
    rule = _rule(block_size)
    encoding = _Encoding(store, rule, convergence_secret, window, progress, known, selection)
    reads_only = concurrency is not None or len(os.sched_getaffinity(0)) > _FEW_PROCESSORS
    reader = BatchReader(root, limits, selection)
    at_once = DEFAULT_CONCURRENCY if concurrency is None else concurrency
    await encoding.run(reader, at_once, reads_only=reads_only)
    return await put_manifest(
        store,
        encoding.tree,
        block_size=block_size,
        convergence_secret=convergence_secret,
        limits=limits,
        window=window,
    )


async def put_manifest(
    store: BlockWriter,
    tree: Tree,
    *,
    block_size: BlockSize | SizeRule | None = None,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
) -> ReadCapability:
    """Encode the index of a tree whose files are in the store; returns the tree's capability.

    Raises: UnsafePath, TreeTooLarge, StoreError.
    """
    pieces = format_manifest(tree, limits)
    if block_size is not None and not isinstance(block_size, BlockSize):
        # A rule asks for the length, and so for the whole index at once.
        whole = await in_thread(b"".join, pieces)
        block_size, pieces = block_size(len(whole)), iter([whole])
    async with aclosing(_in_threads(pieces)) as in_order:
        return await put_content(
            store,
            in_order,
            block_size=block_size,
            convergence_secret=convergence_secret,
            window=min(window, _LARGE_WINDOW),
        )


async def load_tree(
    store: BlockReader,
    capability: ReadCapability,
    *,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
) -> dict[Path, Entry]:
    """Fetch and read the index of a tree of either kind; no file of it.

    A packed tree comes as `PackedTree`.
    Raises: InvalidManifest, also for content that is no tree; BlockNotFound, ContentError,
    StoreError.
    """
    window = min(window, _LARGE_WINDOW)
    async with aclosing(stream_content(store, capability, window=window)) as pieces:
        return await read_tree(pieces, limits=limits)


async def read_tree(
    pieces: AsyncIterable[bytes], *, limits: Limits = DEFAULT_LIMITS
) -> dict[Path, Entry]:
    """Read the index of a tree of either kind from its bytes, as they come.

    Raises: InvalidManifest; whatever the iteration raises.
    """
    tree: dict[Path, Entry] = {}
    head = b""
    reader: ManifestReader | PackedIndexReader | None = None
    async for piece in pieces:
        if reader is None:
            # Both kinds begin alike: the byte after that tells.
            head += piece
            if len(head) <= len(MAGIC):
                continue
            if looks_like_delta(head):
                raise InvalidManifest("it is a delta, which makes a tree out of its base", 0)
            reader = PackedIndexReader(limits) if looks_packed(head) else ManifestReader(limits)
            piece, head = head, b""
        if isinstance(reader, PackedIndexReader):
            reader.feed(piece)
        else:
            tree.update(reader.feed(piece))
    if isinstance(reader, PackedIndexReader):
        return await in_thread(reader.finish)
    if reader is None:
        reader = ManifestReader(limits)
        reader.feed(head)
    await in_thread(reader.finish)
    return tree


async def get_tree(
    store: BlockReader,
    tree: Tree,
    target: str | os.PathLike[str],
    *,
    limits: Limits = DEFAULT_LIMITS,
    max_size: int | None = None,
    window: int = DEFAULT_WINDOW,
    progress: Progress | None = None,
) -> None:
    """Restore a tree at `target`, where nothing may be; its parent directory must exist.

    `max_size` bounds the bytes of all files together: a few blocks can stand for any amount. A
    packed tree is measured by it before anything is written.
    After an error, or when cancelled, what was made is left there: see `remove_tree`.
    Raises: TargetExists, UnsafePath, TreeTooLarge; BlockNotFound, ContentError, StoreError;
    OSError.
    """
    if max_size is not None and isinstance(tree, PackedTree):
        _check_size(tree, max_size)
    restorer = await in_thread(Restorer, tree, target, limits)
    files = read_files(store, tree, restorer.files, window=window)
    async with aclosing(files):
        await _restore(restorer, files, max_size, progress)


async def get_files(
    outline: Outline,
    pieces: AsyncIterator[FilePiece],
    target: str | os.PathLike[str],
    *,
    limits: Limits = DEFAULT_LIMITS,
    max_size: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Restore a tree at `target`, as `get_tree` does, out of pieces of its files from anywhere.

    These come in the order of the outline, and are together at most what it says. The iteration is
    not closed.
    Raises: TargetExists, UnsafePath; TreeTooLarge; ValueError, for pieces in another order;
    OSError; whatever the iteration raises.
    """
    if max_size is not None and outline.size > max_size:
        raise TreeTooLarge("bytes of files", max_size)
    restorer = await in_thread(Restorer, outline, target, limits)
    await _restore(restorer, pieces, outline.size, progress)


async def _restore(
    restorer: Restorer,
    files: AsyncIterator[FilePiece],
    max_size: int | None,
    progress: Progress | None,
) -> None:
    writer = OneBehind(restorer.write)
    try:
        await in_thread(restorer.begin)
        await _write_files(files, writer, max_size, progress)
        await in_thread(restorer.finish)
    finally:
        await writer.settle()
        restorer.close()


def _check_size(tree: PackedTree, max_size: int) -> None:
    """A packed tree tells beforehand what it will be."""
    if sum(entry.size for entry in tree.values() if isinstance(entry, PackedFile)) > max_size:
        raise TreeTooLarge("bytes of files", max_size)


async def _write_files(
    files: AsyncIterator[FilePiece],
    writer: OneBehind[[list[FilePiece]]],
    max_size: int | None,
    progress: Progress | None,
) -> None:
    """Hand pieces to the writer, many at a time, while more are fetched."""
    done = size = pending = 0
    batch: list[FilePiece] = []
    async for piece in files:
        batch.append(piece)
        pending += len(piece.content)
        done += piece.last
        if max_size is not None and size + pending > max_size:
            raise TreeTooLarge("bytes of files", max_size)
        if pending >= _STEP or len(batch) >= _STEP_PIECES:
            await writer.start(batch)
            size, pending, batch = size + pending, 0, []
            if progress is not None:
                progress(done, size)
    await writer.start(batch)
    await writer.wait()
    if progress is not None:
        progress(done, size + pending)


def _rule(block_size: BlockSize | SizeRule | None) -> SizeRule:
    if isinstance(block_size, BlockSize):
        fixed = block_size
        return lambda _: fixed
    return block_size or choose_block_size


class _Encoding:
    """One tree on its way into a store."""

    def __init__(
        self,
        store: BlockWriter,
        block_size: SizeRule,
        secret: ConvergenceSecret,
        window: int,
        progress: Progress | None,
        known: KnownContents | None,
        selection: Selection,
    ) -> None:
        self._known = known
        self._selection = selection
        self.tree: dict[Path, Entry] = {}
        self._store = store
        self._block_size = block_size
        self._secret = secret
        self._window = window
        self._progress = progress
        self._files = 0
        self._size = 0

    async def run(self, reader: BatchReader, concurrency: int, *, reads_only: bool) -> None:
        """Encode everything that the reader finds; `reads_only`: other threads than what reads."""
        try:
            async with PutWindow(self._store, self._window) as puts:
                read, send = partial(self._next, reader, reads_only), partial(self._send, puts)
                await run_stages(read, self._begin, send, concurrency)
        finally:
            reader.close()
            if self._known is not None:
                await self._known.settle()

    def _next(self, reader: BatchReader, reads_only: bool) -> Batch | None:
        batch = reader.next()
        if batch is not None and self._known is not None:
            # Here, since more threads would only wait for each other: most of it holds the lock.
            self._known.recall_batch(batch)
        if batch is not None and batch.files and not (reads_only or any(batch.recalled)):
            batch.encoded = encode_batch(batch, self._block_size, self._secret, {})
            batch.files.clear()
        return batch

    def _begin(self, batch: Batch) -> Iterator[Coroutine[Any, Any, EncodedBatch]]:
        if batch.files or batch.others or batch.encoded is not None:
            yield self._encode(batch)
        if batch.large is not None:
            yield self._put_large(*batch.large)

    async def _encode(self, batch: Batch) -> EncodedBatch:
        if batch.encoded is not None:
            return batch.encoded
        known = await self._known.confirm_batch(batch) if self._known is not None else {}
        return await in_thread(encode_batch, batch, self._block_size, self._secret, known)

    async def _send(self, puts: PutWindow, batch: EncodedBatch) -> None:
        share = Share(batch.files, batch.size, batch.blocks, self._count)
        await puts.add(batch.blocks, share.keep)
        if self._known is not None:
            await self._known.note(batch.encoded)
        self.tree.update(batch.entries)

    async def _put_large(self, path: Path, file: OpenFile) -> EncodedBatch:
        """Encode and send a large file by itself, unless it is known."""
        with file:
            try:
                put = await put_file(
                    self._store,
                    file,
                    block_size=self._block_size(file.size),
                    convergence_secret=self._secret,
                    window=min(self._window, _LARGE_WINDOW),
                    known=self._known,
                    done=partial(self._count, 0),
                )
            except TreeError as error:
                if not self._selection.skips(error):
                    raise
                return EncodedBatch([], [], 0, 0)
            entry = RegularFile(put.capability, file.executable)
            return EncodedBatch([(path, entry)], [], 1, 0, put.encoded)

    def _count(self, files: int, size: int) -> None:
        self._files += files
        self._size += size
        if self._progress is not None:
            self._progress(self._files, self._size)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Make pieces in a worker thread: sorting a million paths takes seconds."""
    while piece := await in_thread(next, pieces, b""):
        yield piece

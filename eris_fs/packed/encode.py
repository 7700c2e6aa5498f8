"""A tree into a store as packs: the shell that joins reading, compression, codec and store.

One thread reads and gathers, some compress and encrypt, the event loop sends; each works ahead of
the next by some packs, and that is the memory it takes. Only the list of entries grows.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from eris.capability import ReadCapability
from eris.encode import Encoder
from eris.model import NULL_CONVERGENCE_SECRET, ConvergenceSecret, EncodedBlock, Reference
from eris.store import BlockWriter
from eris.threads import in_thread
from eris.transfer import DEFAULT_WINDOW as _INDEX_WINDOW
from eris.transfer import PutWindow, put_content
from eris_fs.fetch import DEFAULT_WINDOW
from eris_fs.known import Known, KnownContents
from eris_fs.model import DEFAULT_LIMITS, Limits, Pack
from eris_fs.packed.cost import PIECE_SIZE, choose_by_cost
from eris_fs.packed.frame import MAX_LEVEL, compress, library_version
from eris_fs.packed.index import format_index
from eris_fs.packed.reading import PackReader, RawPack
from eris_fs.packed.record import format_record, parse_record
from eris_fs.progress import Progress, Share
from eris_fs.scan import Root
from eris_fs.selection import EVERYTHING, Selection
from eris_fs.stages import processors, run_stages

__all__ = ["DEFAULT_LEVEL", "MAX_LEVEL", "put_packed_tree", "writer_name"]

DEFAULT_LEVEL: Final = 9
"""Of a tree of sources 19 makes a twelfth less, and takes twenty times as long."""


@dataclass(frozen=True, slots=True)
class _StoredPack:
    """What became of a pack: for the index, for the store, and for a cache."""

    size: int
    stored_size: int
    capabilities: bytes = field(repr=False)
    files: int
    blocks: list[EncodedBlock] = field(repr=False)
    record: tuple[bytes, Known] | None = field(default=None, repr=False)


def writer_name(level: int) -> str:
    """What compresses at this level: what, beside the contents, a tree's URN depends on."""
    return f"zstd {library_version()} level {level}"


async def put_packed_tree(
    store: BlockWriter,
    root: Root,
    *,
    level: int = DEFAULT_LEVEL,
    convergence_secret: ConvergenceSecret = NULL_CONVERGENCE_SECRET,
    limits: Limits = DEFAULT_LIMITS,
    window: int = DEFAULT_WINDOW,
    concurrency: int | None = None,
    progress: Progress | None = None,
    known: KnownContents | None = None,
    selection: Selection = EVERYTHING,
) -> ReadCapability:
    """Encode the tree at `root` into a store, packed; returns its capability when all is kept.

    The same tree has the same capability for the same level and zstd library. Names and targets may
    be any bytes. A root that is a file or a symlink is a tree of one entry. `concurrency` is how
    many threads compress at once, each a few packs of together 2 MiB or more; without it, one more
    than processors. Packs that are `known` are read but neither compressed nor sent again; the
    cache must be one for `writer_name(level)` alone. What is taken of what is there, and several
    roots: see `scan_tree`.
    Raises: UnsupportedEntry, FileChanged, TreeTooLarge, StoreError; OSError.
    """
    if not 1 <= level <= MAX_LEVEL:
        raise ValueError(f"zstd has no level {level}")
    encoding = _Encoding(store, level, convergence_secret, window, progress, known)
    reader = PackReader(root, limits, selection)
    at_once = concurrency or processors() + 1
    await encoding.run(reader, at_once)
    tree = await in_thread(reader.tree, encoding.packs, writer_name(level))
    index = await in_thread(format_index, tree, limits, level)
    return await put_content(
        store,
        index,
        block_size=choose_by_cost(len(index)),
        convergence_secret=convergence_secret,
        window=min(window, _INDEX_WINDOW),
    )


class _Encoding:
    """One tree on its way into a store."""

    def __init__(
        self,
        store: BlockWriter,
        level: int,
        secret: ConvergenceSecret,
        window: int,
        progress: Progress | None,
        known: KnownContents | None,
    ) -> None:
        self.packs: list[Pack] = []
        self._store = store
        self._level = level
        self._secret = secret
        self._window = window
        self._progress = progress
        self._known = known
        self._position = 0
        self._files = self._kept = 0

    async def run(self, reader: PackReader, concurrency: int) -> None:
        """Encode all packs."""
        try:
            async with PutWindow(self._store, self._window) as puts:
                send = partial(self._send, puts)
                await run_stages(reader.next, self._begin, send, concurrency)
        finally:
            reader.close()

    def _begin(self, packs: list[RawPack]) -> Iterator[Coroutine[Any, Any, list[_StoredPack]]]:
        yield self._encode(packs)

    async def _encode(self, packs: list[RawPack]) -> list[_StoredPack]:
        keys: list[bytes] = []
        found: dict[int, _StoredPack] = {}
        if self._known is not None:
            keys, recalled = await self._known.recall([pack.content for pack in packs])
            found = await self._confirmed(packs, recalled)
        return await in_thread(_store_packs, packs, keys, found, self._level, self._secret)

    async def _confirmed(
        self, packs: list[RawPack], recalled: list[Known | None]
    ) -> dict[int, _StoredPack]:
        assert self._known is not None
        found: dict[int, _StoredPack] = {}
        references: dict[int, list[Reference]] = {}
        for place, (pack, known) in enumerate(zip(packs, recalled, strict=False)):
            record = None if known is None else parse_record(known)
            if record is not None:
                stored_size, capabilities, references[place] = record
                size = len(pack.content)
                found[place] = _StoredPack(size, stored_size, capabilities, pack.files, [])
        there = await self._known.confirm(references)
        return {place: pack for place, pack in found.items() if place in there}

    async def _send(self, puts: PutWindow, packs: list[_StoredPack]) -> None:
        records = [pack.record for pack in packs if pack.record is not None]
        # Out of the list as they go: the thread that made it may hold it a little longer.
        packs.reverse()
        while packs:
            pack = packs.pop()
            share = Share(pack.files, pack.size, pack.blocks, self._count)
            await puts.add(pack.blocks, share.keep)
            self.packs.append(Pack(self._position, pack.size, pack.stored_size, pack.capabilities))
            self._position += pack.size
        if self._known is not None:
            await self._known.remember(records)

    def _count(self, files: int, size: int) -> None:
        self._files += files
        self._kept += size
        if self._progress is not None:
            self._progress(self._files, self._kept)


def _store_packs(
    packs: list[RawPack],
    keys: list[bytes],
    known: dict[int, _StoredPack],
    level: int,
    secret: ConvergenceSecret,
) -> list[_StoredPack]:
    """Compress and encode packs; takes them out of the list, which others hold, as it goes."""
    stored: list[_StoredPack] = []
    packs.reverse()
    while packs:
        pack, place = packs.pop(), len(stored)
        key = keys[place] if keys else None
        stored.append(known.get(place) or _store_pack(pack, key, level, secret))
    return stored


def _store_pack(
    pack: RawPack, key: bytes | None, level: int, secret: ConvergenceSecret
) -> _StoredPack:
    """Compress and encode one pack."""
    stored = compress(pack.content, level)
    if len(stored) >= len(pack.content):
        stored = pack.content
    capabilities = bytearray()
    blocks: dict[Reference, EncodedBlock] = {}
    for start in range(0, len(stored), PIECE_SIZE):
        piece = memoryview(stored)[start : start + PIECE_SIZE]
        encoder = Encoder(choose_by_cost(len(piece)), secret)
        for block in (*encoder.feed(piece), *encoder.finish()):
            blocks[block[0]] = block
        capabilities += encoder.read_capability.to_bytes()
    record = None
    if key is not None:
        record = key, format_record(len(stored), bytes(capabilities), list(blocks))
    return _StoredPack(
        len(pack.content),
        len(stored),
        bytes(capabilities),
        pack.files,
        list(blocks.values()),
        record,
    )

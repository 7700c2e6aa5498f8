"""Bakes deltas: for each item from the newest items of the same name, when nothing else is to do.

Deltas are made one at a time, by threads that let all others go first, and only while no nar or
tree waits to be made. Which items may be bases is known by name (`bases`): that table is made of
the records at the start, in the background, and added to with each item that is baked. A base must
have a record, which says that its nar was seen to be right; where its files are is looked up when
they are needed.

At most twice as many bases are tried as deltas are wanted, whatever comes later. What became of
each is in the record of the item, so that nothing is tried twice, and a server that was stopped
goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

from eris.threads import in_thread, work_done_by
from eris_fs.errors import FileChanged
from guix_glue.errors import NotBaked
from guix_glue.formats.narinfo import DeltaLine
from guix_glue.formats.store_path import hash_part_of
from guix_glue.kept.delta_results import DeltaResult, Deltas
from guix_glue.kept.records import ErisResult
from guix_glue.local.niceness import be_nice
from guix_glue.publish.baking import is_compressed
from guix_glue.publish.baking_log import DeltaNotes
from guix_glue.publish.bases import Bases
from guix_glue.publish.cache_guard import CacheGuard
from guix_glue.publish.delta_trees import BaseGone, KnownTree, TreesOfItems
from guix_glue.publish.deltas import EncodeDelta
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.tally import DeltaTally

__all__ = ["DeltaBakery"]

_log = logging.getLogger(__name__)

# Reading ahead, compressing, and a tree in a store; more than one step is hardly ever at work.
_THREADS: Final = 4
_READ_AT_ONCE: Final = 200
_TRIES: Final = 2
"""Bases tried for each delta that is wanted: some may be of another machine type."""


class DeltaBakery:
    """Bakes the deltas of a publisher or of a mirror, `count` for each item. `close()` it.

    `ready` returns when nothing else waits to be baked.
    """

    def __init__(
        self,
        trees: TreesOfItems,
        encode: EncodeDelta,
        ready: Callable[[], Awaitable[None]],
        cache: Path,
        *,
        count: int,
        notes: DeltaNotes,
    ) -> None:
        self._trees = trees
        self._encode = encode
        self._ready = ready
        self._count = count
        self._notes = notes
        self._bases = Bases()
        self.tally = DeltaTally()
        """What became of them since the start."""
        self._pool = ThreadPoolExecutor(_THREADS, "delta", initializer=be_nice)
        self._loading = asyncio.create_task(self._load())
        guarded = CacheGuard(self._bake, cache)
        self.queue: JobQueue[str] = JobQueue(guarded, workers=1)

    async def prepare(self, patience_s: float) -> None:
        """Wait until it is known which items there are, but not for longer than this."""
        await asyncio.wait([self._loading], timeout=patience_s)

    async def close(self) -> None:
        """Stop. Nothing half-made is kept."""
        await self.queue.close()
        self._loading.cancel()
        await asyncio.wait([self._loading])
        await asyncio.to_thread(self._pool.shutdown)

    def lines(self, eris: ErisResult) -> tuple[DeltaLine, ...]:
        """What the narinfo of an item says of its deltas, the smallest first."""
        return self._deltas(eris).lines(self._count)

    def is_complete(self, base_name: str, eris: ErisResult | None) -> bool:
        """Whether there is no more to make for an item of this base name."""
        if eris is None or eris.urn_in(self._encode.destination) is None:
            return True
        return self._loading.done() and self._next_base(base_name, eris) is None

    def want(self, base_name: str) -> None:
        """Have the deltas of an item made that there are not."""
        self.queue.want(base_name, hash_part_of(base_name))

    def baked(self, base_name: str, eris: ErisResult | None) -> None:
        """Nars and tree of an item were made: it may be a base, and have deltas."""
        self._bases.add(base_name, 0.0 if eris is None else eris.baked_at)
        if not self.is_complete(base_name, eris):
            self.want(base_name)

    def _deltas(self, eris: ErisResult) -> Deltas:
        return eris.deltas.in_store(self._encode.destination.store_id)

    def _next_base(self, base_name: str, eris: ErisResult) -> str | None:
        """The base that is to be tried next."""
        deltas = self._deltas(eris)
        if is_compressed(base_name):
            return None
        if len(deltas.made) >= self._count or len(deltas.results) >= _TRIES * self._count:
            return None
        bases = self._bases.before(base_name, eris.baked_at)
        return next((base for base in bases if not deltas.is_known(base)), None)

    async def _load(self) -> None:
        items = self._trees.items()
        try:
            while some := await in_thread(list, islice(items, _READ_AT_ONCE)):
                for base_name, baked_at in some:
                    self._bases.add(base_name, baked_at)
        except OSError as error:
            _log.warning("Items of earlier runs are no bases of deltas: %s", error.strerror)

    async def _bake(self, hash_part: str) -> None:
        """Make the deltas of an item, one after the other. Raises: as `JobQueue` expects."""
        await asyncio.wait([self._loading])
        while True:
            # What is asked for meanwhile goes first.
            await self._ready()
            # Not tried, and so not told of, for each item that waits.
            self._encode.check()
            tree = await self._trees.look(hash_part)
            if tree is None or tree.eris is None:
                return
            if tree.eris.urn_in(self._encode.destination) is None:
                return
            base = self._next_base(tree.item.base_name, tree.eris)
            if base is None:
                return
            await self._bake_one(tree, base)

    async def _bake_one(self, tree: KnownTree, base_name: str) -> None:
        with self.tally.one() as outcome, self._notes.one(tree.item, base_name) as note:
            result = await self._made(tree, base_name)
            if result is None:
                # Its fault, and not the item's: it is no base of any other item either.
                self._bases.forget(base_name)
                outcome.passed_over = True
                note.tell(None, "the base is gone")
                return
            await self._trees.keep(tree, result)
            outcome.tell(result.block_bytes if result.urn else None)
            note.tell(result.block_bytes if result.urn else None, result.reason)

    async def _made(self, tree: KnownTree, base_name: str) -> DeltaResult | None:
        """A delta, or why there is none; None if the base is not there."""
        base = await self._trees.look(hash_part_of(base_name))
        if base is None or base.item.base_name != base_name:
            return None
        destination = self._encode.destination
        new = tree.way(destination)
        for way in base.ways(destination):
            with contextlib.suppress(BaseGone), work_done_by(self._pool):
                try:
                    return await self._encode(tree, new, base_name, way)
                except (FileChanged, OSError) as error:
                    raise NotBaked(tree.item.base_name, f"a delta: {error}") from error
        return None

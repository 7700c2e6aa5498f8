"""The life of a seed, but for its connection: trees are looked for, read, and offered.

Where a store's database was written to, or somebody has fetched something, the items are listed
anew; a directory is looked at from time to time, the more rarely the longer that takes. What is
gone is no longer offered from that moment on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from eris.threads import in_thread, settle, work_done_by
from guix_glue.errors import GuixError
from guix_glue.local.files import replace_file
from guix_glue.local.store_list import ValidItem
from guix_glue.seed.asking import Asking
from guix_glue.seed.errors import DamagedIndex, IndexNotWritten, SeedError
from guix_glue.seed.index import SeedIndex, View
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.lending import Lending
from guix_glue.seed.made import MadeBlocks
from guix_glue.seed.making import Maker
from guix_glue.seed.packed_items import PackedItems
from guix_glue.seed.roots import PinnedRoots
from guix_glue.seed.segment import Segment
from guix_glue.seed.status import SeedStatus, format_status
from guix_glue.seed.trees import SeedTree, Trees
from guix_glue.servers.complaints import Complaints

__all__ = ["STATUS_FILE", "Seeder"]

_log = logging.getLogger(__name__)

STATUS_FILE: Final = "status.json"

_LOOK_S: Final = 10.0
"""Between two looks whether something changed."""
_SHARE: Final = 20
"""What looking takes is at most one of so many parts of the time."""
_DIRECTORY_S: Final = 60.0
_STATUS_S: Final = 5.0
_SAID_S: Final = 60.0
_WRITE_AGAIN_S: Final = 30.0


@dataclass(slots=True)
class _Source:
    """Where trees come from, what there was at the last look, and when the next one is."""

    trees: Trees
    stamp: object = None
    found: list[SeedTree] = field(default_factory=list)
    to_ask: list[ValidItem] = field(default_factory=list)
    next_at: float = 0.0
    was_read: bool = False
    is_changed: bool = False
    """Whether somebody asked for what is not as it was."""


class Seeder:
    """Keeps `index` as the trees of `sources` are, and has `maker` offer them.

    `idle` is one thread that lets others go first. `roots` keep items from being collected, if that
    is wanted. `packed` finds out how items were packed; what is made of that goes to `lending`.
    `run()` it, then `close()` it.
    """

    def __init__(
        self,
        index: SeedIndex,
        sources: Sequence[Trees],
        idle: Executor,
        asking: Asking | None = None,
        *,
        roots: PinnedRoots | None = None,
        packed: PackedItems | None = None,
        lending: Lending | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:
        self._index = index
        self._sources = [_Source(one) for one in sources]
        self._idle = idle
        self._asking = asking
        self._roots = roots
        self._packed = packed
        self._lending = lending
        self._clock = clock
        self._look_s = look_s
        self._wake = asyncio.Event()
        self.has_looked = asyncio.Event()
        """Set once all that the index has, and that may be given away, is."""
        self._is_verified = False
        self._loop = asyncio.get_running_loop()
        self._damaged: dict[Segment, DamagedIndex] = {}
        self._ask_at = 0.0
        self._connected = False
        self._problem = ""
        self._status: SeedStatus | None = None
        # What was counted, and how many trees, packed ones and bytes that were.
        self._counted: tuple[View, frozenset[str], tuple[int, int, int]]
        self._counted = View(), frozenset(), (0, 0, 0)
        self._said = ""
        self._complaints = Complaints(_log, length=10)
        self.maker = Maker(
            lambda: index.view,
            MadeBlocks(index.directory),
            on_pack=None if lending is None else lending.add,
            on_change=self._changed,
            on_damage=self._is_damaged,
        )
        """What makes blocks of what is offered."""
        self._indexer = Indexer(index, on_dropped=self.maker.forget_changes)

    def close(self) -> None:
        """Let go of open files, once nothing runs any more."""
        self.maker.close()

    def set_connected(self, connected: bool) -> None:
        """Note whether a daemon asks us."""
        self._connected = connected

    async def once(self) -> bool:
        """Bring the index up to date, and that is all; tells whether all trees are in it."""
        with work_done_by(self._idle):
            try:
                await self._look()
            finally:
                self._indexer.stop()
                self._write_status()
        status = self.status()
        return not (status.problem or status.trees_failed or status.trees_left)

    async def run(self) -> None:
        """Go on until it is cancelled; what is under way then is ended first."""
        beside = [asyncio.create_task(self._tell_on())]
        if self._lending is not None:
            beside.append(asyncio.create_task(self._lending.run()))
        asking: asyncio.Task[None] | None = None
        try:
            with work_done_by(self._idle):
                while True:
                    await self._look()
                    if (asking is None or asking.done()) and self._may_ask():
                        asking = asyncio.create_task(self._ask())
                    await self._wait()
        finally:
            self._indexer.stop()
            tasks = [*beside, *([] if asking is None else [asking])]
            for task in tasks:
                task.cancel()
            await settle(*tasks)
            self._write_status()

    # looking

    async def _look(self) -> None:
        """Look at what is due, and bring the index up to date."""
        due = [source for source in self._sources if self._is_due(source)]
        for source in due:
            began = self._clock()
            source.is_changed = False
            source.stamp = await in_thread(source.trees.stamp)
            try:
                source.found, source.to_ask = await in_thread(source.trees.list)
                source.was_read = True
                self._complaints.withdraw("list")
            except GuixError as error:
                self._complaints.say("list", f"What there is to seed cannot be told: {error}")
            took_s = self._clock() - began
            source.next_at = self._clock() + max(self._look_s, _SHARE * took_s)
        if not due:
            return
        trees = self._trees()
        await self._drop_others(trees)
        self.has_looked.set()
        if not self._is_verified:
            # It takes long, and what is wrong there makes no block: others need not wait for it.
            self._is_verified = await self._safely(self._index.verify)
        began = self._clock()
        wanted = [tree for source in due for tree in source.found]
        if await self._safely(self._indexer.update, wanted):
            self._say_done()
            self._write_status()
            if self._packed is not None:
                await self._safely_await(self._packed.update, wanted)
        self._write_status()
        took_s = self._clock() - began
        for source in due:
            if source.stamp is None:
                source.next_at = self._clock() + max(_DIRECTORY_S, _SHARE * took_s)

    def _is_due(self, source: _Source) -> bool:
        if source.is_changed:
            return True
        if self._clock() < source.next_at:
            return False
        return source.stamp is None or source.trees.stamp() != source.stamp

    def _trees(self) -> list[SeedTree]:
        """All that are offered, each once."""
        found = {tree.root: tree for source in self._sources for tree in source.found}
        return list(found.values())

    async def _drop_others(self, trees: Sequence[SeedTree]) -> None:
        """Offer nothing that is not there any more, from now on."""
        if self._roots is not None:
            try:
                # An identity has what is of a store.
                items = [tree.root for tree in trees if tree.identity]
                await in_thread(self._roots.keep, items)
            except SeedError as error:
                self._complaints.say("roots", str(error))
        self.maker.offer(tree.root for tree in trees)
        if all(source.was_read for source in self._sources):
            # Where a store could not be listed so far, what it had is not read again for that.
            await in_thread(self._indexer.keep_only, trees)

    async def _safely(self, work: Callable[..., None], *given: object) -> bool:
        """Do something in a thread that writes the index; tells whether it could be written."""

        async def do() -> None:
            for segment, error in list(self._damaged.items()):
                self._damaged.pop(segment)
                await in_thread(self._index.reject, segment, error)
            await in_thread(work, *given)

        return await self._safely_await(do)

    async def _safely_await(self, work: Callable[..., Awaitable[None]], *given: object) -> bool:
        """The same of a coroutine."""
        try:
            await work(*given)
        except IndexNotWritten as error:
            self._problem = str(error)
            self._complaints.say("index", str(error))
            for source in self._sources:
                source.stamp = object()
                source.next_at = self._clock() + _WRITE_AGAIN_S
            return False
        self._problem = ""
        self._complaints.withdraw("index")
        return True

    async def _wait(self) -> None:
        self.maker.tidy()
        try:
            async with asyncio.timeout(self._look_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
        # Whatever changed may go on changing.
        await asyncio.sleep(min(1.0, self._look_s))

    def _changed(self, root: str) -> None:
        """A file was not what it was; a store's never is another, and is left alone."""

        def look() -> None:
            for source in self._sources:
                if any(tree.root == root and not tree.identity for tree in source.found):
                    source.is_changed = True
                    self._wake.set()

        self._loop.call_soon_threadsafe(look)

    def _is_damaged(self, segment: Segment, error: DamagedIndex) -> None:
        def look() -> None:
            self._damaged[segment] = error
            for source in self._sources:
                source.stamp, source.next_at = object(), 0.0
            self._wake.set()

        self._loop.call_soon_threadsafe(look)

    # asking

    def _may_ask(self) -> bool:
        return (
            self._asking is not None
            and self._clock() >= self._ask_at
            and any(source.to_ask for source in self._sources)
        )

    async def _ask(self) -> None:
        assert self._asking is not None
        items = [item for source in self._sources for item in source.to_ask]
        _log.info("Asking servers about %d items", len(items))
        all_answered = await self._asking.ask(items)
        self._ask_at = self._clock() + (0.0 if all_answered else self._asking.again_s)
        # The answers are on disk: what is public is found there by the next look.
        for source in self._sources:
            source.next_at = 0.0
        self._wake.set()

    # telling

    async def _tell_on(self) -> None:
        said_at = self._clock()
        while True:
            await asyncio.sleep(_STATUS_S)
            self._write_status()
            if self._clock() - said_at >= _SAID_S:
                said_at = self._clock()
                self._say_on()

    def status(self) -> SeedStatus:
        """How it is doing now."""
        view, progress, tally = self._index.view, self._indexer.progress, self.maker.tally
        offered = self.maker.offered
        if self._counted[0] is not view or self._counted[1] is not offered:
            # Of many trees it is no matter of a moment.
            self._counted = view, offered, _count(view, offered)
        trees, packed, data = self._counted[2]
        return SeedStatus(
            pid=os.getpid(),
            connected=self._connected,
            trees=trees,
            packed=packed,
            trees_left=progress.left,
            trees_failed=progress.failed,
            to_ask=sum(len(source.to_ask) for source in self._sources),
            data_bytes=data,
            blocks=view.blocks,
            index_bytes=view.size,
            read_bytes=progress.read_bytes,
            read_s=round(progress.read_s, 3),
            asked=tally.asked,
            given=tally.given,
            given_bytes=tally.given_bytes,
            changed=tally.changed,
            problem=self._problem,
        )

    def _write_status(self) -> None:
        status = self.status()
        if status == self._status:
            return
        self._status = status
        try:
            replace_file(self._index.directory / STATUS_FILE, format_status(status), 0o600)
        except OSError as error:
            self._complaints.say("status", f"{STATUS_FILE} cannot be written: {error.strerror}")

    def _say_done(self) -> None:
        status = self.status()
        text = (
            f"{status.trees} trees can be seeded, {_mebibytes(status.data_bytes)} of files as"
            f" {status.blocks} blocks; the index has {_mebibytes(status.index_bytes)}"
        )
        if status.trees_failed:
            text += f"; {status.trees_failed} trees cannot be"
        if text != self._said:
            self._said = text
            _log.info("%s", text)

    def _say_on(self) -> None:
        progress = self._indexer.progress
        if progress.left:
            _log.info(
                "%d trees are read, %d are left; %s in %.0f s so far",
                progress.done,
                progress.left,
                _mebibytes(progress.read_bytes),
                progress.read_s,
            )


def _count(view: View, offered: frozenset[str]) -> tuple[int, int, int]:
    """How many trees are given away, how many as they were packed, and the bytes of their files."""
    whole = [root for root in view.closed if root in offered]
    data = sum(view.parts[one].row.size for root in whole for one in view.roots.get(root, ()))
    return len(whole), sum(root in offered for root in view.packed), data


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"

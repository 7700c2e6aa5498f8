"""One nar on its way to one client: source by source, until all of it has gone out.

A task makes it, two pieces ahead of the client at most; so whoever is slow makes nothing grow. Once
something went out, only sources count that give the same beginning (`outflow`): the others are
passed over, and so is what would have to be made whole first. When one of them brings the whole and
it is right, those that began otherwise were wrong; when none does, nobody knows who is, and
what went out is made whole and compared first from then on.

The server whose narinfo came first need not have the nar: when no nar that is known of is of use,
the other servers are asked, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

from eris.errors import StoreError
from eris.threads import in_thread
from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.local.installed import InstalledItems
from guix_glue.proxy.bringing import Bringing, Give
from guix_glue.proxy.making import Making, Makings
from guix_glue.proxy.noting import Noting
from guix_glue.proxy.outflow import OtherBeginning, Outflow
from guix_glue.proxy.settings import NarSettings
from guix_glue.proxy.spool import NoRoom
from guix_glue.proxy.turns import Turn, Turns
from guix_glue.proxy.ways import Known, Way, block_ways, hinted_ways, nar_ways
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.patience import Patience, first_success
from guix_glue.sources.hints import Hints
from guix_glue.sources.order import Source, bases_of
from guix_glue.sources.vouching import Vouched

__all__ = ["AskAnew", "Passage", "Workshop"]

_log = logging.getLogger(__name__)

AskAnew = Callable[[], Awaitable[Vouched | None]]
"""What all servers say of the item by now; None, if they say nothing of it."""

_Way = TypeVar("_Way")

_AHEAD: Final = 2
# All pauses together before a nar is given up.
_WAITING_S: Final = 60.0


class _NoTime(NoRoom):
    """It takes too long to make it whole."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all passages use. `turns` bounds how many are under way."""

    bringing: Bringing
    makings: Makings
    hints: Sequence[Hints]
    installed: InstalledItems | None
    noting: Noting | None
    turns: Turns
    settings: NarSettings


class Passage:
    """A nar for one client. Whoever has it calls `leave`, once."""

    def __init__(
        self, vouched: Vouched, workshop: Workshop, ask_anew: AskAnew | None = None
    ) -> None:
        """`ask_anew` is called once at most."""
        self._vouched = vouched
        self._ask_anew = ask_anew
        self._newcomers: list[Way] | None = None
        self._item = vouched.narinfo.item
        self._workshop = workshop
        self._bringing = workshop.bringing
        self._settings = workshop.settings
        self._outflow = Outflow(self._item.nar_hash, self._item.nar_size)
        self._ends = defaultdict[Source, NarEnd](NarEnd)
        self._others: list[Source] = []
        self._sender: Source | None = None
        self._given = 0
        self._whole: Making | None = None
        self._is_committed = False
        self.may_pass = False
        """Whether something failed that may be there in a moment."""
        loop = asyncio.get_running_loop()
        self._spool_until = loop.time() + self._settings.spool_s
        self.has_begun: asyncio.Future[bool] = loop.create_future()
        """Done when there is something to send, or nothing ever will be (False)."""
        # None is the end; it goes in from a callback, so that there is no end that is missed.
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        self._turn = Turn(self._send_away)
        self._is_sent_away = False
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._ended)

    def commit(self) -> None:
        """The client was told that it comes: from now on it is tried again, too."""
        self._is_committed = True

    def leave(self) -> None:
        """The client does not wait for it any longer."""
        self.task.cancel()
        if self._whole is not None:
            self._whole.leave()

    async def pieces(self, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """So many bytes of the nar from an offset on; once only.

        Raises: FetchFailed, if the rest cannot be had.
        """
        await asyncio.shield(self.has_begun)
        if self._whole is not None:
            async with aclosing(self._whole.pieces(offset, size)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        place, end = 0, offset + size
        while place < end:
            piece = await self._next()
            cut = piece[max(0, offset - place) : end - place]
            place += len(piece)
            if cut:
                yield cut

    def _send_away(self) -> None:
        self._is_sent_away = True
        self.task.cancel()

    async def _next(self) -> bytes:
        piece = await self._pieces.get()
        if piece is None:
            if not self.task.cancelled() and (error := self.task.exception()) is not None:
                raise error
            quiet = "the client took nothing, and others wanted its turn"
            raise FetchFailed(quiet if self._is_sent_away else "the nar is not made any more")
        self._room.release()
        return piece

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, FetchFailed):
            _log.error("A nar cannot be made", exc_info=error)
        self._begin(well=not task.cancelled() and error is None)
        self._pieces.put_nowait(None)

    def _begin(self, *, well: bool) -> None:
        if not self.has_begun.done():
            self.has_begun.set_result(well)

    async def _give(self, data: bytes) -> None:
        """Send some of it, when there is room for more."""
        if data:
            with self._turn.waiting():
                await self._room.acquire()
            self._given += len(data)
            self._pieces.put_nowait(data)
            self._begin(well=True)

    # --- making it ---------------------------------------------------------------------------

    async def _run(self) -> None:
        """Make it. Raises: FetchFailed."""
        turns = self._workshop.turns
        try:
            async with asyncio.timeout(self._settings.wait_s):
                await turns.take(self._turn)
        except TimeoutError:
            raise TemporaryFailure("too many nars are asked for at once") from None
        try:
            async with asyncio.timeout(self._settings.longest_s):
                done = await self._make()
        except TimeoutError:
            raise FetchFailed("it takes too long") from None
        finally:
            turns.give_back(self._turn)
        if not done:
            if self._others and self._sender is not None:
                await self._bringing.doubt(self._sender, self._item)
            raise FetchFailed(f"no source brings the nar of {self._item.base_name}")
        for source in self._others:
            await self._bringing.wrong(source, self._item)

    async def _make(self) -> bool:
        known = await self._bringing.known(self._item)
        has_blocks = self._bringing.has_blocks
        if has_blocks and await self._out_of_blocks(known):
            return True
        nars = self._bringing.nars(self._vouched)
        ways = nar_ways(nars, known, self._bringing.rests)
        wrong = [way for way in ways if known.is_wrong(way.source)]
        right = [way for way in ways if way not in wrong]

        async def attempt(way: Way | None) -> bool | None:
            return await (self._by_others(nars, known) if way is None else self._attempt(way))

        # None stands for the others. Then a store that is left alone: it may be back by now.
        rests = not has_blocks and self._bringing.has_store
        late = (await self._block_ways(known))[:1] if rests else []
        return await self._first([*right, None, *late, *wrong], attempt)

    async def _by_others(self, tried: Sequence[NarSource], known: Known) -> bool | None:
        """Try the nars of servers that were not known to have the item. As `_attempt`."""
        if self._newcomers is None:
            vouched = None if self._ask_anew is None else await self._ask_anew()
            nars = [] if vouched is None else self._bringing.nars(vouched)
            new = [nar for nar in nars if nar not in tried]
            self._newcomers = nar_ways(new, known, self._bringing.rests)
        return await self._first(self._newcomers, self._attempt) or None

    async def _first(
        self, ways: Iterable[_Way], attempt: Callable[[_Way], Awaitable[bool | None]]
    ) -> bool:
        patience = Patience(_WAITING_S)
        return bool(await first_success(ways, attempt, self._pause, patience))

    async def _block_ways(self, known: Known) -> list[Way]:
        hints = self._settings.trust_hints
        return block_ways(self._vouched, known, trust_hints=hints, bases=await self._bases())

    async def _out_of_blocks(self, known: Known) -> bool:
        hints = self._settings.trust_hints
        ways = await self._block_ways(known)
        if await self._any_of(ways):
            return True
        if not hints or not self._may_spool():
            return False
        for one in self._workshop.hints:
            urns = await one.urns(self._item.hash_part)
            found = hinted_ways(urns, known, ways)
            if await self._any_of(found):
                return True
            ways += found
        return False

    async def _bases(self) -> frozenset[str]:
        if self._workshop.installed is None:
            return frozenset()
        narinfos = [one.narinfo for one in self._vouched.candidates]
        named = bases_of([self._vouched.narinfo, *narinfos], trust_hints=self._settings.trust_hints)
        return await in_thread(self._workshop.installed.among, named)

    async def _any_of(self, ways: Iterable[Way]) -> bool:
        for way in ways:
            if not self._bringing.rests(way.source) and await self._attempt(way):
                return True
        return False

    async def _attempt(self, way: Way) -> bool | None:
        """Try a way; None if it is of no use.

        Raises: TemporaryFailure, if a nar may come in a moment.
        """
        try:
            await self._try(way)
            # At once: who has all of it may leave.
            if self._workshop.noting is not None:
                self._workshop.noting.came(self._vouched, way.source)
            return True
        except OtherBeginning:
            self._others.append(way.source)
        except TemporaryFailure:
            self.may_pass = True
            if isinstance(way.source, NarSource):
                raise
        except Exception as error:  # of whatever kind, which is in the log: the next may do
            self.may_pass |= isinstance(error, StoreError | TimeoutError | OSError | NoRoom)
        return None

    async def _try(self, way: Way) -> None:
        if self._outflow.sent != self._given:
            # Some was lost between both. Nobody may go on behind a gap.
            raise FetchFailed("the nar cannot be gone on with")
        if way.whole or (self._item.nar_size <= self._settings.small and self._may_spool()):
            try:
                await self._make_whole(way.source)
                return
            except NoRoom as error:
                if way.whole:
                    raise
                if isinstance(error, _NoTime) and isinstance(way.source, NarSource):
                    # Others may be faster; if none is, it goes out as it comes.
                    raise TemporaryFailure("it was not whole in time") from error
        await self._bringing.bring(
            way.source, self._item, self._outflow, self._sent_by(way.source), self._ends[way.source]
        )

    def _sent_by(self, source: Source) -> Give:
        async def give(data: bytes) -> None:
            if data:
                self._sender = source
            await self._give(data)

        return give

    def _may_spool(self) -> bool:
        return not self._outflow.sent and asyncio.get_running_loop().time() < self._spool_until

    async def _make_whole(self, source: Source) -> None:
        """Make it whole first. Raises: NoRoom, also if there is no time; what is wrong with it."""
        if not self._may_spool():
            raise NoRoom
        making = self._workshop.makings.join(source, self._item, self._ends[source])
        try:
            async with asyncio.timeout_at(self._spool_until) as timeout:
                await making.done()
        except BaseException as error:
            making.leave()
            if isinstance(error, TimeoutError) and timeout.expired():
                raise _NoTime from None
            raise
        self._whole = making
        self._begin(well=True)

    async def _pause(self, pause_s: float) -> None:
        if not self._is_committed and not self.has_begun.done():
            # The client is told so, and asks again.
            raise TemporaryFailure("nothing can be had at the moment")
        await asyncio.sleep(pause_s)

"""Makes a nar out of one source, and keeps in mind how that went.

What comes is fetched by one task, some steps ahead; a worker thread makes bytes of the nar of it,
and hashes them; and these are given on, as fast as they are taken and no faster. Whoever lets us
wait in vain is left alone for a while. A URN that leads to something else is noted, on disk; a
server whose nar was wrong, and a delta, for some time: what else it has comes last then, since much
of a large nar is gone before it shows. What merely failed may do better next time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator, Sequence
from typing import Final, Protocol, TypeVar, assert_never

from eris.ahead import run_ahead
from eris.capability import ReadCapability
from eris.errors import ContentError, CorruptBlock
from eris.store import BlockReader
from eris.threads import in_thread, settle
from eris_fs.errors import TreeError
from guix_glue.errors import (
    CompressionError,
    FetchFailed,
    HashMismatch,
    InvalidNar,
    TemporaryFailure,
)
from guix_glue.formats.narinfo import Narinfo
from guix_glue.model import StoreItem
from guix_glue.proxy.known_urns import KnownUrns
from guix_glue.proxy.outflow import OtherBeginning, Outflow
from guix_glue.proxy.settings import NarSettings
from guix_glue.proxy.spool import NoRoom
from guix_glue.proxy.unpacking import Compressed, Events, Unpacker, some_of
from guix_glue.proxy.ways import Known
from guix_glue.servers.complaints import Complaints
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.outage import Outage
from guix_glue.servers.remembered import Remembered
from guix_glue.servers.resting import Resting
from guix_glue.servers.url import Server, origin_of
from guix_glue.servers.watch import Watch
from guix_glue.sources.hints import Hints
from guix_glue.sources.order import DeltaSource, ErisSource, Source
from guix_glue.sources.pouring import Received
from guix_glue.sources.stored_events import stored_events
from guix_glue.sources.vouching import Vouched
from guix_glue.sources.waiting import BLOCKS, let_us_wait, reason_of_failure, whom
from guix_glue.sources.watched_store import WatchedStore

__all__ = ["Bringing", "Give", "NarServers"]

_log = logging.getLogger(__name__)

_Batch = TypeVar("_Batch")

Give = Callable[[bytes], Awaitable[None]]
"""Takes bytes of a nar; returns when there is room for more."""

_AHEAD: Final = 1
_WRONG_S: Final = 3600.0
_WRONG_KEPT: Final = 10_000
_LIARS: Final = 256
_COMPLAINTS: Final = 1000
# What is wrong as often as it is read; of a block that is corrupt there is a right one.
_NOT_THE_ITEM: Final = (FetchFailed, InvalidNar, CompressionError, ContentError, TreeError)
_MAY_PASS: Final = (TemporaryFailure, CorruptBlock)


class NarServers(Protocol):
    """What fetches nars from servers: see `guix_glue.upstream.servers`."""

    def nar_sources(self, server: Server, narinfo: Narinfo) -> list[NarSource]:
        """Where the nars are that a narinfo of the server names, in the order to try them."""

    def nar(
        self, source: NarSource, nar_size: int, end: NarEnd | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Fetch a nar, as it is sent. Raises, when iterated: FetchFailed."""


class Bringing:
    """All sources, and what is known of them. `close()` it, when nothing is brought any more."""

    def __init__(
        self,
        store: BlockReader | None,
        servers: NarServers,
        urns: KnownUrns,
        hints: Sequence[Hints],
        settings: NarSettings,
    ) -> None:
        self._store = store
        self._servers = servers
        self._urns = urns
        self._hints = hints
        self._settings = settings
        self._resting = Resting()
        self._wrong: Remembered[tuple[bytes, object]] = Remembered(_WRONG_S, length=_WRONG_KEPT)
        self._liars: Remembered[Hashable] = Remembered(_WRONG_S, length=_LIARS)
        self._complaints = Complaints(_log, length=_COMPLAINTS)
        self._not_kept = Outage(0.0)
        self._notes: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Write down what is left to be noted."""
        await settle(*self._notes)

    @property
    def has_store(self) -> bool:
        """Whether there is a store of blocks, be it left alone for now."""
        return self._store is not None

    @property
    def has_blocks(self) -> bool:
        """Whether there is one that is not left alone."""
        return self.has_store and not self._resting.rests(BLOCKS, _now())

    def rests(self, source: Source) -> bool:
        """Whether it is too early to ask whoever has a source."""
        return self._resting.rests(whom(source), _now())

    def nars(self, vouched: Vouched) -> list[NarSource]:
        """The nars of all servers, in their order."""
        return [
            source
            for one in vouched.candidates
            for source in self._servers.nar_sources(one.server, one.narinfo)
        ]

    async def known(self, item: StoreItem) -> Known:
        """What is known of the sources of an item."""
        urns = await in_thread(self._urns.find, item)

        def is_wrong(source: Source) -> bool:
            if isinstance(source, ErisSource):
                return urns.is_wrong(source.capability, time.time())
            lies = isinstance(source, NarSource) and whom(source) in self._liars
            return lies or _wrong_key(source, item) in self._wrong

        def is_doubted(source: Source) -> bool:
            return isinstance(source, ErisSource) and urns.is_doubted(
                source.capability, time.time()
            )

        return Known(urns.good, is_wrong, is_doubted)

    async def bring(
        self, source: Source, item: StoreItem, outflow: Outflow, give: Give, end: NarEnd
    ) -> None:
        """Make the nar of an item, and give what may go out of it; returns when all is given.

        `end` is the same for all tries of a nar.
        Raises: OtherBeginning, of which nothing is noted; NoRoom, from `give`; FetchFailed and
        whatever else is wrong with the source.
        """
        outflow.begin()
        try:
            await self._bring(source, item, outflow, give, end)
        except (OtherBeginning, NoRoom):
            raise
        except Exception as error:
            await self._failed(source, item, error)
            raise
        self._came(source, item)

    async def wrong(self, source: Source, item: StoreItem) -> None:
        """Note that a source is something else."""
        match source:
            case ErisSource(capability):
                await self._note(self._urns.note_wrong, item, capability)
                for one in self._hints:
                    await one.forget(item.hash_part, capability.to_urn())
            case DeltaSource() | NarSource():
                self._wrong.add(_wrong_key(source, item))
            case _:
                assert_never(source)

    async def doubt(self, source: Source, item: StoreItem) -> None:
        """What went out of a source was not what any other has, whoever is right.

        A tree is made whole and compared, next time; a server is asked after the others.
        """
        if isinstance(source, ErisSource):
            await self._note(self._urns.note_doubted, item, source.capability)
        else:
            await self.wrong(source, item)

    async def _bring(
        self, source: Source, item: StoreItem, outflow: Outflow, give: Give, end: NarEnd
    ) -> None:
        settings, size = self._settings, item.nar_size
        if isinstance(source, NarSource):
            unpacker = Compressed(source.compression, size)
            async with Watch(settings.nar_stall_s, settings.min_rate) as watch:
                nar = Received().batches(self._servers.nar(source, size, end), watch)
                try:
                    await _flow(nar, unpacker, outflow, give, watch)
                except (InvalidNar, CompressionError, HashMismatch) as error:
                    judged = end.judge(error)
                    if judged is error:
                        raise
                    raise judged from error
            return
        assert self._store is not None
        async with Watch(settings.eris_stall_s, settings.min_rate) as watch:
            store = WatchedStore(self._store, watch)
            if isinstance(source, ErisSource):
                events = stored_events(store, source.capability, size)
            else:
                # Loaded only here: most items come without.
                from guix_glue.sources.delta_events import delta_events

                base = f"{item.store_dir}/{source.base}"
                events = delta_events(store, source.capability, base, size, lambda _: None)
            await _flow(events, Events(), outflow, give, watch)

    def _came(self, source: Source, item: StoreItem) -> None:
        _log.debug("The nar of %s was had from %s", item.base_name, _shown(source))
        self._resting.came(whom(source))
        self._complaints.withdraw(_key(source, item))
        if isinstance(source, ErisSource):
            # Nobody waits for it.
            note = self._note(self._urns.note_good, item, source.capability)
            task = asyncio.create_task(note)
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _failed(self, source: Source, item: StoreItem, error: Exception) -> None:
        _log.debug("A source failed", exc_info=error)
        reason = reason_of_failure(error)
        text = f"The nar of {item.base_name} cannot be had from {_shown(source)}: {reason}"
        self._complaints.say(_key(source, item), text)
        if let_us_wait(source, error):
            self._resting.rest(whom(source), _now())
        elif _is_something_else(error):
            await self.wrong(source, item)
            if isinstance(source, NarSource) and isinstance(error, HashMismatch):
                self._liars.add(whom(source))

    async def _note(
        self,
        note: Callable[[StoreItem, ReadCapability], None],
        item: StoreItem,
        capability: ReadCapability,
    ) -> None:
        try:
            await in_thread(note, item, capability)
        except OSError as error:
            if self._not_kept.begin(error.strerror):
                _log.warning("What URNs are is not kept on disk for now: %s", error.strerror)
        else:
            self._not_kept.end()


async def _flow(
    batches: AsyncGenerator[_Batch, None],
    unpacker: Unpacker[_Batch],
    outflow: Outflow,
    give: Give,
    watch: Watch,
) -> None:
    """Give what may go out of what comes, while more comes."""
    async with run_ahead(batches, _AHEAD) as take:
        while (batch := await take()) is not None:
            watch.pause()
            await _give_all(unpacker.feed(batch), outflow, give)
            watch.resume()
    watch.pause()
    await _give_all(_end(unpacker), outflow, give)
    await give(await in_thread(outflow.finish))


async def _give_all(nar: Iterator[bytes], outflow: Outflow, give: Give) -> None:
    while True:
        some = await in_thread(some_of, nar, outflow)
        if some.out:
            await give(some.out)
        if some.error is not None:
            raise some.error
        if some.ended:
            return


def _end(unpacker: Unpacker[_Batch]) -> Iterator[bytes]:
    yield unpacker.finish()


def _is_something_else(error: Exception) -> bool:
    return isinstance(error, _NOT_THE_ITEM) and not isinstance(error, _MAY_PASS)


def _wrong_key(source: Source, item: StoreItem) -> tuple[bytes, object]:
    """Of servers all nars of the item are meant."""
    return item.nar_hash, whom(source) if isinstance(source, NarSource) else source


def _key(source: Source, item: StoreItem) -> str:
    return f"{item.base_name} {_shown(source)}"


def _shown(source: Source) -> str:
    """What of a source may be in a log: no URN, not even its beginning."""
    match source:
        case ErisSource():
            return "blocks"
        case DeltaSource(base=base):
            return f"a delta from {base}"
        case NarSource(url=url):
            origin = origin_of(url)
            return "a directory" if origin is None else origin.url
        case _:
            assert_never(source)


def _now() -> float:
    return asyncio.get_running_loop().time()

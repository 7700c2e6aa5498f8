"""Brings one item: tries its sources one after the other until what came has the signed hash.

A source that fails costs its leftovers, which are removed, and a line to the user; the next one
begins anew. When there is no other, servers that failed only for now are tried again a few times.
Only what this module made is ever removed. A store of blocks that cannot be reached, or brings next
to nothing, is left alone for a while, so that not every item of a build waits for it; and a server
of nars that does so, or is not there, is asked after the others, and once. Servers that were found
on the local network, by nobody's word, get less time, and one that failed is left alone altogether.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ErisError, StoreError
from eris.store import BlockReader
from eris.threads import in_thread
from guix_glue.errors import (
    CompressionError,
    FetchFailed,
    HashMismatch,
    InvalidNar,
    NoConnection,
    TemporaryFailure,
)
from guix_glue.fetch.nar_client import NarClient
from guix_glue.fetch.places import Places
from guix_glue.fetch.settings import DEFAULT_SETTINGS, FetchSettings
from guix_glue.fetch.traces import Messages, Transfer
from guix_glue.formats.narinfo import Narinfo
from guix_glue.local.links import Links
from guix_glue.local.restore import remove_item
from guix_glue.local.sinks import EventSink, Expected, NarSink
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.patience import Patience, first_success
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.resting import Resting
from guix_glue.servers.watch import TooSlow, Watch
from guix_glue.sources.hints import Hints
from guix_glue.sources.order import (
    DeltaSource,
    ErisSource,
    Offer,
    Source,
    sources_of,
    wants_hints,
)
from guix_glue.sources.pouring import Received, pour
from guix_glue.sources.stored_events import stored_events
from guix_glue.sources.vouching import Vouched
from guix_glue.sources.waiting import BLOCKS, let_us_wait, reason_of_failure, whom
from guix_glue.sources.watched_store import WatchedStore

__all__ = ["Fetched", "Fetcher", "NotFetched"]

_log = logging.getLogger(__name__)

# All pauses together before an item is given up, silence included: enough for one silence.
_PATIENCE_S: Final = 90.0
# Found servers that are tried for an item before those that were named: each may cost a silence.
_NEARBY_FIRST: Final = 2


@dataclass(frozen=True, slots=True)
class Fetched:
    """An item is in place: SHA-256 and bytes of its nar; `tree`, if it came as one."""

    nar_hash: bytes
    nar_size: int
    tree: ReadCapability | None = None


@dataclass(frozen=True, slots=True)
class NotFetched:
    """No source brought the item; what came with another hash, and the narinfos that named it."""

    mismatches: tuple[tuple[Narinfo, HashMismatch], ...] = ()


@dataclass(slots=True)
class _Trial:
    """One item that is wanted."""

    destination: str
    links: Links | None
    patience: Patience
    mismatches: list[tuple[Narinfo, HashMismatch]] = field(default_factory=list)
    # Hosts that are not there; and nars of which something was heard.
    absent: set[Hashable] = field(default_factory=set)
    reached: set[Source] = field(default_factory=set)
    ends: dict[NarSource, NarEnd] = field(default_factory=dict)
    # What maps say of it.
    hints: Sequence[str] = field(default=(), repr=False)


class Fetcher:
    """Fetches items, one at a time; close it at the end. `store` is None where there is none.

    `places` tells where its blocks came from, if anybody knows; `hints` who may know URNs of items
    for which nobody signed one.
    """

    def __init__(
        self,
        store: BlockReader | None,
        messages: Messages,
        settings: FetchSettings = DEFAULT_SETTINGS,
        proxies: Proxies = NO_PROXIES,
        places: Places | None = None,
        hints: Hints | None = None,
    ) -> None:
        self._store = store
        self._hints = hints
        self._places = places
        self._messages = messages
        self._settings = settings
        self._nars = NarClient(settings.connect_s, proxies)
        self._nearby = settings.for_nearby()
        self._nearby_nars = NarClient(self._nearby.connect_s, leaves_host=False)
        self._resting = Resting()

    async def close(self) -> None:
        """Close the connections to servers."""
        await self._nars.close()
        await self._nearby_nars.close()

    async def fetch(
        self,
        ways: Iterable[Vouched],
        destination: str,
        links: Links | None = None,
        bases: Set[str] = frozenset(),
    ) -> Fetched | NotFetched:
        """Make the item at `destination`, where nothing may be.

        `bases` are items that are here, by their base names: deltas may lead from these.
        """
        if await in_thread(os.path.lexists, destination):
            self._messages.error(f"{destination} exists already")
            return NotFetched()
        trial = _Trial(destination, links, Patience(_PATIENCE_S))
        others = iter(ways)
        first = next(others, None)
        if first is None:
            return NotFetched()
        trial.hints = await self._hinted(first)
        fetched = await first_success(
            self._sources(chain([first], others), bases, trial.hints),
            lambda one: self._try(*one, trial),
            self._pause,
            trial.patience,
        )
        return fetched or NotFetched(tuple(trial.mismatches))

    async def _hinted(self, way: Vouched) -> Sequence[str]:
        """What maps say of an item, if that is of use."""
        if self._hints is None or self._store is None or not wants_hints(way):
            return ()
        if self._resting.rests(BLOCKS, _now()):
            return ()
        return await self._hints.urns(way.item.hash_part)

    def _sources(
        self, ways: Iterable[Vouched], bases: Set[str], mapped: Sequence[str]
    ) -> Iterator[tuple[Offer, Vouched]]:
        """What to try: last the nars of servers that let us wait before, and no such store."""
        later = []
        nearby = 0
        for way in ways:
            eris, trusts = self._store is not None, self._settings.trust_hints
            # Once for an item: maps know nothing of ways.
            hints, mapped = mapped, ()
            for offer in sources_of(way, eris=eris, trust_hints=trusts, bases=bases, hints=hints):
                rests = self._resting.rests(whom(offer.source), _now())
                if _is_nearby(offer.source) and not rests:
                    nearby += 1
                    rests = nearby > _NEARBY_FIRST
                if not rests:
                    yield offer, way
                elif isinstance(offer.source, NarSource):
                    later.append((offer, way))
        for offer, way in later:
            if not (_is_nearby(offer.source) and self._resting.rests(whom(offer.source), _now())):
                yield offer, way

    async def _try(self, offer: Offer, way: Vouched, trial: _Trial) -> Fetched | None:
        """Try a source; None if it is of no use.

        Raises: TemporaryFailure, if it may be in a moment.
        """
        source = offer.source
        if whom(source) in trial.absent:
            return None
        rested = self._resting.rests(whom(source), _now())
        try:
            return await self._attempt(source, way, trial)
        except HashMismatch as error:
            if offer.narinfo is not None and not _is_nearby(source):
                trial.mismatches.append((offer.narinfo, error))
            self._failed(source, error)
            await self._forget(source, way, trial)
        except TemporaryFailure as error:
            self._failed(source, error)
            if _is_nearby(source):
                return None
            # One that was there just now may be starting anew.
            if isinstance(error, NoConnection) and source not in trial.reached:
                trial.absent.add(whom(source))
                return None
            trial.reached.add(source)
            raise
        except Exception as error:  # of whatever kind: the next source may do
            self._failed(source, error)
            if _is_of_the_content(error):
                await self._forget(source, way, trial)
            if _is_silence(error) and not rested and _is_named(source):
                trial.patience.spend(self._settings.nar_stall_s)
                trial.reached.add(source)
                raise TemporaryFailure("nothing comes any more") from error
        return None

    async def _forget(self, source: Source, way: Vouched, trial: _Trial) -> None:
        """What a map said was wrong."""
        if self._hints is not None and isinstance(source, ErisSource):
            urn = source.capability.to_urn()
            if urn in trial.hints:
                await self._hints.forget(way.item.hash_part, urn)

    async def _pause(self, pause_s: float) -> None:
        self._messages.say(f"trying again in {pause_s:.0f} s" if pause_s >= 1 else "trying again")
        await asyncio.sleep(pause_s)

    def _failed(self, source: Source, error: Exception) -> None:
        _log.debug("A source failed", exc_info=error)
        if _is_nearby(source) or let_us_wait(source, error):
            self._resting.rest(whom(source), _now())
        if isinstance(source, DeltaSource) and isinstance(error, HashMismatch):
            # No word of hashes: it need not be what came that is wrong.
            error = FetchFailed(f"it does not make this item, or {source.base} was altered")
        self._messages.warn(f"download from '{source.shown}' failed: {reason_of_failure(error)}")

    async def _attempt(self, source: Source, way: Vouched, trial: _Trial) -> Fetched:
        """Try one source; leaves nothing behind if it fails.

        Raises: HashMismatch; whatever else can go wrong.
        """
        item, destination, links = way.narinfo.item, trial.destination, trial.links
        limit = item.nar_size if way.size_is_signed else self._settings.max_unsigned_size
        expected = Expected(item.nar_hash, limit)
        sink: EventSink | NarSink
        match source:
            case DeltaSource():
                sink = made = EventSink(destination, expected, links)
                base = f"{item.store_dir}/{source.base}"
                fetching = self._fetch_delta(source, made, base, limit, destination)
            case ErisSource():
                sink = tree = EventSink(destination, expected, links)
                fetching = self._fetch_tree(source, tree, limit, item.nar_size, destination)
            case NarSource():
                sink = nar = NarSink(destination, expected, source.compression, links)
                end = trial.ends.setdefault(source, NarEnd())
                fetching = self._fetch_nar(source, nar, item.nar_size, destination, end)
        try:
            await fetching
        except BaseException:
            if sink.created:
                await in_thread(remove_item, destination)
            raise
        self._resting.came(whom(source))
        came_by = source.capability if isinstance(source, ErisSource) else None
        return Fetched(item.nar_hash, sink.size, came_by)

    async def _fetch_nar(
        self, source: NarSource, sink: NarSink, nar_size: int, destination: str, end: NarEnd
    ) -> None:
        shown = self._messages.transfer(destination, source.shown, source.file_size)
        received = Received()
        try:
            settings = self._nearby if source.nearby else self._settings
            nars = self._nearby_nars if source.nearby else self._nars
            async with Watch(settings.nar_stall_s, settings.min_rate) as watch:
                batches = received.batches(nars.stream(source, nar_size, end), watch)
                await pour(batches, sink, watch, lambda: shown.reach(received.size))
        except (InvalidNar, CompressionError, HashMismatch) as error:
            judged = end.judge(error)
            if judged is error:
                raise
            raise judged from error
        shown.succeed(received.size)

    async def _fetch_delta(
        self, source: DeltaSource, sink: EventSink, base: str, limit: int, destination: str
    ) -> None:
        # Loaded only here: most items come without.
        from guix_glue.sources.delta_events import delta_events

        assert self._store is not None
        shown = self._messages.transfer(destination, source.shown, None)
        async with Watch(self._settings.eris_stall_s, self._settings.min_rate) as watch:
            store = WatchedStore(self._store, watch)
            batches = delta_events(store, source.capability, base, limit, shown.expect)
            await pour(batches, sink, watch, lambda: shown.reach(store.received))
        shown.succeed(store.received)
        shown.tell(f"by a delta of {store.received} bytes against {source.base}")
        await self._tell_places(shown)

    async def _fetch_tree(
        self, source: ErisSource, sink: EventSink, limit: int, nar_size: int, destination: str
    ) -> None:
        assert self._store is not None
        shown = self._messages.transfer(destination, source.shown, nar_size)
        async with Watch(self._settings.eris_stall_s, self._settings.min_rate) as watch:
            store = WatchedStore(self._store, watch)
            batches = stored_events(store, source.capability, limit)
            await pour(batches, sink, watch, lambda: shown.reach(sink.size))
        shown.succeed(sink.size)
        await self._tell_places(shown)

    async def _tell_places(self, shown: Transfer) -> None:
        if self._places is not None:
            shown.tell(await self._places.describe())


def _is_of_the_content(error: Exception) -> bool:
    """Whether what came is not what was wanted, however often it is fetched."""
    missing = BlockNotFound | StoreError | TemporaryFailure
    return isinstance(error, ErisError) and not isinstance(error, missing)


def _is_silence(error: Exception) -> bool:
    return isinstance(error, TimeoutError) and not isinstance(error, TooSlow)


def _is_nearby(source: Source) -> bool:
    """Whether it is a server that was found on the local network."""
    return isinstance(source, NarSource) and source.nearby


def _is_named(source: Source) -> bool:
    """Whether it is a server that somebody named."""
    return isinstance(source, NarSource) and not source.nearby


def _now() -> float:
    return asyncio.get_running_loop().time()

"""Substitutes out of blocks beside the same nar over HTTP, near and far, and where HTTP wins.

Everything is baked once, before anything is timed, in a publisher for each way; the publishers are
then started where a case wants them and take what they need from their caches. The same item is
fetched in every way, out of the page cache of the far side. For an upgrade the near side has a
daemon with the blocks of the release before, and is told of both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.link import LinkUnavailable, link
from benchmarks.report import Row, compare, single
from benchmarks.substitutes import memory, query
from benchmarks.substitutes.items import Changes, Item, make_item, make_older
from benchmarks.substitutes.programs import (
    HERE,
    Fetcher,
    Offer,
    Place,
    Publication,
    Store,
    block_bytes,
    kaplad,
    make_keys,
    offers,
    publish,
)

__all__ = ["run"]

_STANDARD: Final = Publication(
    "ERIS standard", ("-C", "none", "--eris-format", "standard"), eris=True
)
_PACKED: Final = Publication("ERIS packed", ("-C", "none", "--eris-format", "packed"), eris=True)
# Fetching hardly feels the level; baking 300 MB at the default would take a minute and a half.
_PACKED_3: Final = Publication(
    "ERIS packed, level 3", (*_PACKED.options, "--eris-level", "3"), True
)
_GZIP_3, _ZSTD_3, _NONE, _ZSTD_19 = (
    Publication(f"HTTP {name}", ("-C", name), eris=False)
    for name in ("gzip:3", "zstd:3", "none", "zstd:19")
)
_SMALL: Final = ("1 MB of 200 files", 200, 1_000_000)
_MIDDLE: Final = ("30 MB of 1,500 files", 1_500, 30_000_000)
_LARGE: Final = ("300 MB of 15,000 files", 15_000, 300_000_000)
_SLOW_BARS: Final = {"cold": (1.4, 1.1), "upgrade": (0.5, 0.3)}


@dataclass(frozen=True, slots=True)
class _Case:
    """An item that is fetched in a number of ways, each against one nar."""

    item: Item
    packed: Publication
    nars: tuple[Publication, ...]
    """The first is what all others are compared with."""
    older: tuple[Changes, ...]


class _Way(NamedTuple):
    """How an item is fetched; `local` stores are on the near side."""

    label: str
    publication: Publication
    remote: bool = False
    local: Store | None = None
    moved: int = 0


def run(rounds: int) -> list[Row]:
    """Measure all cases; the large item and the links with fewer rounds."""
    with tempfile.TemporaryDirectory(prefix="kb-") as scratch, ExitStack() as stack:
        bench = _Bench(Path(scratch), stack)
        return [*bench.rows(rounds), *query.run(Path(scratch), rounds), *memory.run(Path(scratch))]


class _Bench:
    """The items, what was baked of them, and the daemons that belong to no place."""

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        self._scratch = scratch
        self._stack = stack
        self._items = scratch / "items"
        self._keys = scratch / "etc"
        self._offers: dict[tuple[Publication, Item], Offer] = {}
        self._local: dict[Changes, Store] = {}
        self._old_urns: dict[tuple[Publication, Item, Changes], str] = {}
        (scratch / "out").mkdir()
        make_keys(self._keys)

    def rows(self, rounds: int) -> Iterator[Row]:
        """Bake, then measure place by place."""
        small, middle, large = (make_item(self._items, *what) for what in (_SMALL, _MIDDLE, _LARGE))
        few = (rounds + 1) // 2
        both: tuple[Changes, ...] = ("scattered", "side by side")
        usual = (_ZSTD_3, _GZIP_3, _NONE)
        cases = (
            _Case(small, _PACKED, usual, both),
            _Case(middle, _PACKED, usual, both),
            _Case(large, _PACKED_3, usual, ("scattered",)),
        )
        for case in cases:
            self._bake(case)
        slow = [_Case(item, _PACKED, (_ZSTD_19,), both) for item in (small, middle)]
        for case in slow:
            self._bake_new(case.item, case.nars, HERE)
        yield from self._start_row(rounds)
        near = self._ways_at(HERE, HERE, "loopback", [(cases[0], 2 * rounds), (cases[2], few)])
        yield from near
        yield from self._far(50, [(case, few) for case in cases[:2]])
        yield from self._far(10, [(case, few) for case in slow])

    # baking

    def _bake(self, case: _Case) -> None:
        begin = time.monotonic()
        formats = (_STANDARD, case.packed)
        self._bake_new(case.item, (*formats, *case.nars), HERE)
        for changes in case.older:
            older = make_older(case.item, changes)
            if changes not in self._local:
                directory = self._scratch / changes.replace(" ", "-")
                self._local[changes] = self._stack.enter_context(kaplad(HERE, directory))
            for publication in formats:
                offer = self._baked(publication, older, self._local[changes].url, changes)
                assert offer.urn is not None
                self._old_urns[publication, case.item, changes] = offer.urn
        took = time.monotonic() - begin
        print(f"{case.item.label}: baked in {took:.0f} s", file=sys.stderr)

    def _bake_new(self, item: Item, publications: Sequence[Publication], place: Place) -> None:
        with kaplad(place, self._scratch / "far") as store:
            for publication in publications:
                offer = self._baked(publication, item, store.url, "new")
                self._offers[publication, item] = offer

    def _baked(self, publication: Publication, item: Item, store: str, cache: str) -> Offer:
        with publish(
            HERE,
            publication,
            items=self._items,
            cache=self._scratch / f"cache {cache}",
            keys=self._keys,
            store=store,
        ) as server:
            return offers(server, [item])[0]

    # measuring

    def _start_row(self, rounds: int) -> Iterator[Row]:
        fetcher = Fetcher(HERE, self._scratch / "out", self._keys)
        found = [fetcher.start_s() for _ in range(2 * rounds)]
        yield single("kapla substitute, start and end", found, "s", note="part of all that follows")

    def _far(self, mbit_s: float, cases: Sequence[tuple[_Case, int]]) -> Iterator[Row]:
        try:
            with link(50, mbit_s) as wire:
                label = f"50 ms, {mbit_s:g} Mbit/s"
                yield from self._ways_at(wire.near, wire.far, label, cases)
        except LinkUnavailable as error:
            print(f"No link could be made: {error}. Its cases are left out.", file=sys.stderr)

    def _ways_at(
        self, near: Place, far: Place, label: str, cases: Sequence[tuple[_Case, int]]
    ) -> Iterator[Row]:
        fetcher = Fetcher(near, self._scratch / "out", self._keys)
        with kaplad(far, self._scratch / "far") as remote:
            for case, rounds in cases:
                with ExitStack() as stack:
                    yield from self._ways(case, rounds, label, far, fetcher, remote, stack)

    def _ways(
        self,
        case: _Case,
        rounds: int,
        label: str,
        far: Place,
        fetcher: Fetcher,
        remote: Store,
        stack: ExitStack,
    ) -> Iterator[Row]:
        ways = list(self._make_ways(case, remote))
        servers = {
            publication: stack.enter_context(
                publish(
                    far,
                    publication,
                    items=self._items,
                    cache=self._scratch / "cache new",
                    keys=self._keys,
                    store=remote.url,
                )
            )
            for publication in dict.fromkeys(way.publication for way in ways)
        }
        seconds: dict[_Way, list[float]] = defaultdict(list)
        for number in range(rounds):
            # Whoever comes first has no advantage over all rounds.
            for way in ways if number % 2 else ways[::-1]:
                stores = [] if way.local is None else [way.local.url]
                stores += [remote.tcp_url] if way.remote else []
                took = fetcher.fetch(case.item, servers[way.publication], stores).seconds
                seconds[way].append(took)
        peer, *others = ways
        for way in others:
            yield _row(f"{label}: {case.item.label}", way, peer, seconds)

    def _make_ways(self, case: _Case, remote: Store) -> Iterator[_Way]:
        for nar in case.nars:
            yield _Way(nar.label, nar, moved=self._offers[nar, case.item].nar_bytes)
        # Over a link of 10 Mbit/s files that are not packed would only take time.
        for publication in (case.packed,) if case.nars == (_ZSTD_19,) else (_STANDARD, case.packed):
            name = publication.label
            urn = self._offers[publication, case.item].urn
            assert urn is not None
            yield _Way(f"{name}, cold", publication, True, None, block_bytes(remote.url, urn))
            if case.nars != (_ZSTD_19,):
                yield _Way(f"{name}, warm", publication, False, remote)
            for changes in case.older:
                old = self._old_urns[publication, case.item, changes]
                local = self._local[changes]
                moved = block_bytes(f"{remote.url} {local.url}", urn, old)
                yield _Way(f"{name}, upgrade, {changes}", publication, True, local, moved)


def _row(case: str, way: _Way, peer: _Way, seconds: dict[_Way, list[float]]) -> Row:
    bar = goal = None
    if peer.publication is _ZSTD_19:
        bar, goal = next(marks for word, marks in _SLOW_BARS.items() if word in way.label)
    note = f"{_megabytes(way.moved)} moved, {_megabytes(peer.moved)} by {peer.label}"
    return compare(
        f"{case}: {way.label} / {peer.label}",
        seconds[way],
        seconds[peer],
        "s",
        bar,
        goal,
        at_most=True,
        note=note,
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size < 10e6 else f"{size / 1e6:.0f} MB"

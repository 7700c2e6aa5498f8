"""Items baked once in each way, and fetched from publishers that start where a case wants them.

Nothing is timed while anything is baked; the publishers that are fetched from take what they need
from their caches. Each way to fetch an item is measured against the first one of its case, in
rounds that take turns. Stores of older releases are on the near side, in daemons of their own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.link import link
from benchmarks.network import NetworkUnavailable
from benchmarks.report import Row, compare, single
from benchmarks.substitutes.items import Item
from benchmarks.substitutes.programs import (
    HERE,
    Fetcher,
    Offer,
    Place,
    Publication,
    Server,
    Store,
    block_bytes,
    kaplad,
    make_keys,
    offers,
    publish,
)
from benchmarks.substitutes.proxied import proxy

__all__ = ["Bench", "Case", "Timed", "Way"]

LINK_DELAY_MS: Final = 50


@dataclass(frozen=True, slots=True)
class Case:
    """An item that is fetched in a number of ways.

    As each of the `nars`, and as each of the `trees`: cold, warm if so wanted, and as an upgrade
    from each of the `older` releases, which are named by what distinguishes them. And, if there is
    a way to publish these, by a delta from the release `before`, which is of the same name.
    """

    item: Item
    nars: tuple[Publication, ...]
    """The first is what all else is compared with."""
    trees: tuple[Publication, ...]
    older: Mapping[str, Item] = field(default_factory=dict)
    warm: bool = False
    delta: Publication | None = None
    before: Item | None = None


class Way(NamedTuple):
    """How an item is fetched; `local` stores are on the near side. `moved`: bytes."""

    label: str
    publication: Publication
    remote: bool
    local: Store | None
    moved: int


class Timed(NamedTuple):
    """A way and the case's first one, in seconds, round by round."""

    where: str
    item: Item
    way: Way
    seconds: list[float]
    peer: Way
    peer_seconds: list[float]

    def row(self) -> Row:
        """As a line of the table."""
        return compare(
            f"{self.where}: {self.item.label}: {self.way.label} / {self.peer.label}",
            self.seconds,
            self.peer_seconds,
            "s",
            at_most=True,
            note=f"{_megabytes(self.way.moved)} moved, {_megabytes(self.peer.moved)} by"
            f" {self.peer.label}",
        )


class Bench:
    """What was baked of the items in `items`, and where; daemons end with `stack`."""

    def __init__(self, scratch: Path, stack: ExitStack) -> None:
        self._scratch = scratch
        self._stack = stack
        self.items = scratch / "items"
        self.keys = scratch / "etc"
        self._offers: dict[tuple[Publication, Item], Offer] = {}
        self._local: dict[str, Store] = {}
        self._old_urns: dict[tuple[Publication, Item], str] = {}
        self.items.mkdir()
        (scratch / "out").mkdir()
        make_keys(self.keys)

    def start_row(self, rounds: int) -> Row:
        """How long a fetcher takes that has nothing to do."""
        fetcher = self._fetcher(HERE)
        found = [fetcher.start_s() for _ in range(rounds)]
        return single(
            "kapla substitute, start and end", found, "s", note="part of all that follows"
        )

    # baking

    def bake(self, case: Case) -> None:
        """Make all that the case needs."""
        begin = time.monotonic()
        with kaplad(HERE, self._scratch / "far") as store:
            for publication in (*case.trees, *case.nars):
                if (publication, case.item) not in self._offers:
                    offer = self._baked(publication, [case.item], store.url, "new")
                    self._offers[publication, case.item] = offer
            if case.delta is not None and case.before is not None:
                both = [case.before, case.item]
                offer = self._baked(case.delta, both, store.url, "new")
                if not offer.deltas:
                    raise RuntimeError(f"{case.item.label}: there is no delta")
                self._offers[case.delta, case.item] = offer
        for name, older in case.older.items():
            for publication in case.trees:
                offer = self._baked(publication, [older], self._local_store(name).url, name)
                assert offer.urn is not None
                self._old_urns[publication, older] = offer.urn
        took = time.monotonic() - begin
        print(f"{case.item.label}: baked in {took:.0f} s", file=sys.stderr)

    def _local_store(self, name: str) -> Store:
        if name not in self._local:
            directory = self._scratch / name.replace(" ", "-")
            self._local[name] = self._stack.enter_context(kaplad(HERE, directory))
        return self._local[name]

    def _baked(
        self, publication: Publication, items: Sequence[Item], store: str, cache: str
    ) -> Offer:
        """Have items baked, one after the other; what is offered of the last one."""
        with publish(
            HERE,
            publication,
            items=self.items,
            cache=self._scratch / f"cache {cache}",
            keys=self.keys,
            store=store,
        ) as server:
            for item in items:
                (offer,) = offers(server, [item])
            return offer

    # measuring

    def here(self, cases: Sequence[tuple[Case, int]]) -> Iterator[Timed]:
        """Measure cases on loopback, each with its number of rounds."""
        return self._measure(HERE, HERE, "loopback", cases)

    def far(self, mbit_s: float, cases: Sequence[tuple[Case, int]]) -> Iterator[Timed]:
        """Measure cases over a link; says so and gives nothing where none can be made."""
        try:
            with link(LINK_DELAY_MS, mbit_s) as wire:
                label = f"{LINK_DELAY_MS} ms, {mbit_s:g} Mbit/s"
                yield from self._measure(wire.near, wire.far, label, cases)
        except NetworkUnavailable as error:
            print(f"No link could be made: {error}. Its cases are left out.", file=sys.stderr)

    def through_proxy(
        self, mbit_s: float, cases: Sequence[Case], rounds: int
    ) -> Iterator[tuple[Item, list[float], list[float], int]]:
        """Upgrades by a delta through a proxy on the near side, and the nar from the far one.

        Gives the item, seconds of both, and the bytes of the nar. Each round has a proxy of its
        own, which knows nothing yet; the release before is installed.
        """
        with link(LINK_DELAY_MS, mbit_s) as wire, kaplad(wire.far, self._scratch / "far") as remote:
            for case in cases:
                assert case.delta is not None
                nar = Way("", case.nars[0], False, None, 0)
                delta = Way("", case.delta, True, None, 0)
                with ExitStack() as stack:
                    servers = self._servers([nar, delta], wire.far, remote, stack)
                    ours, theirs, size = list[float](), list[float](), 0
                    for _ in range(rounds):
                        upstream = servers[case.nars[0]]
                        seconds, size = _taken(wire.near, upstream.url, case.item, upstream)
                        theirs.append(seconds)
                        upstream = servers[case.delta]
                        scratch = Path(tempfile.mkdtemp(dir=self._scratch))
                        (scratch / "etc").symlink_to(self.keys)
                        with proxy(wire.near, scratch, remote.tcp_url, upstream) as url:
                            ours.append(_taken(wire.near, url, case.item, upstream)[0])
                        if "a delta from" not in (scratch / "proxy.log").read_text():
                            raise RuntimeError(f"{case.item.label} came by no delta")
                yield case.item, ours, theirs, size

    def _fetcher(self, place: Place) -> Fetcher:
        return Fetcher(place, self._scratch / "out", self.keys)

    def _measure(
        self, near: Place, far: Place, label: str, cases: Sequence[tuple[Case, int]]
    ) -> Iterator[Timed]:
        fetcher = self._fetcher(near)
        with kaplad(far, self._scratch / "far") as remote:
            for case, rounds in cases:
                ways = list(self._ways(case, remote))
                with ExitStack() as stack:
                    servers = self._servers(ways, far, remote, stack)
                    seconds = _take_turns(fetcher, case.item, ways, servers, remote, rounds)
                peer, *others = ways
                for way in others:
                    yield Timed(label, case.item, way, seconds[way], peer, seconds[peer])

    def _servers(
        self, ways: Sequence[Way], far: Place, remote: Store, stack: ExitStack
    ) -> dict[Publication, Server]:
        return {
            publication: stack.enter_context(
                publish(
                    far,
                    publication,
                    items=self.items,
                    cache=self._scratch / "cache new",
                    keys=self.keys,
                    store=remote.url,
                )
            )
            for publication in dict.fromkeys(way.publication for way in ways)
        }

    def _ways(self, case: Case, remote: Store) -> Iterator[Way]:
        for nar in case.nars:
            yield Way(nar.label, nar, False, None, self._offers[nar, case.item].nar_bytes)
        for tree in case.trees:
            urn = self._offers[tree, case.item].urn
            assert urn is not None
            yield Way(f"{tree.label}, cold", tree, True, None, block_bytes(remote.url, urn))
            if case.warm:
                yield Way(f"{tree.label}, warm", tree, False, remote, 0)
            for name, older in case.older.items():
                local = self._local[name]
                old = self._old_urns[tree, older]
                moved = block_bytes(f"{remote.url} {local.url}", urn, old)
                yield Way(f"{tree.label}, {name}", tree, True, local, moved)
        if case.delta is not None:
            urn, *_ = self._offers[case.delta, case.item].deltas
            moved = block_bytes(remote.url, urn)
            yield Way(case.delta.label, case.delta, True, None, moved)


def _taken(place: Place, url: str, item: Item, server: Server) -> tuple[float, int]:
    """Take an item at a place as a stock client does; seconds, and bytes that came."""
    program = [sys.executable, "-m", "benchmarks.taking"]
    command = place.command(*program, url, item.hash_part, server.store_dir)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, size = done.stdout.split()
    return float(seconds), int(size)


def _take_turns(
    fetcher: Fetcher,
    item: Item,
    ways: Sequence[Way],
    servers: Mapping[Publication, Server],
    remote: Store,
    rounds: int,
) -> dict[Way, list[float]]:
    seconds: dict[Way, list[float]] = defaultdict(list)
    for number in range(rounds):
        # Whoever comes first has no advantage over all rounds.
        for way in ways if number % 2 else ways[::-1]:
            stores = [] if way.local is None else [way.local.url]
            stores += [remote.tcp_url] if way.remote else []
            took = fetcher.fetch(item, servers[way.publication], stores).seconds
            seconds[way].append(took)
    return seconds


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size < 10e6 else f"{size / 1e6:.0f} MB"

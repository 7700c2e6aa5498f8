"""Real packages over a slow link: packed trees and deltas against the best nar that HTTP can send.

Whoever has the release before has its blocks in a daemon of their own; or, for deltas, has it
installed, and no daemon.
"""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare
from benchmarks.scratch import kept_directory
from benchmarks.substitutes.bench import Bench, Case
from benchmarks.substitutes.items import Item, item_path
from benchmarks.substitutes.programs import Publication

__all__ = ["run"]

_MBIT_S: Final = 10
_UPGRADE: Final = "upgrade"
_PACKED: Final = Publication("packed", ("-C", "none", "--eris-format", "packed"), eris=True)
_NAR: Final = Publication("HTTP zstd:19", ("-C", "zstd:19"), eris=False)
_BY_DELTA: Final = "upgrade by delta"
_DELTA: Final = Publication(
    _BY_DELTA, ("-C", "none", "--eris-format", "packed"), eris=True, deltas=True
)
_BY_PROXY: Final = "upgrade through the proxy, for a stock client"
_BARS: Final = {
    "cold": (1.4, 1.1),
    _UPGRADE: (0.5, 0.3),
    _BY_DELTA: (0.3, 0.2),
    _BY_PROXY: (0.35, 0.25),
}
# Of smaller ones the start of the fetcher, and round trips, are nearly all.
_SMALL: Final = 2_000_000


def run(pairs: Iterable[tuple[str, Path, Path]], rounds: int) -> list[Row]:
    """Measure pairs of releases: a name, the older tree and the newer one."""
    with ExitStack() as stack:
        bench = Bench(kept_directory(), stack)
        cases = [_case(bench.items, *pair) for pair in pairs]
        for case in cases:
            bench.bake(case)
        timed = list(bench.far(_MBIT_S, [(case, rounds) for case in cases]))
        proxied = list(bench.through_proxy(_MBIT_S, cases, rounds)) if timed else []
    ratios: dict[str, list[float]] = defaultdict(list)
    for one in timed:
        of_rounds = [a / b for a, b in zip(one.seconds, one.peer_seconds, strict=True)]
        kind = one.way.label.split(", ")[-1]
        if kind != _BY_DELTA or one.item.size > _SMALL:
            ratios[kind].append(statistics.median(of_rounds))
    for item, ours, theirs, _ in proxied:
        if item.size > _SMALL:
            of_rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
            ratios[_BY_PROXY].append(statistics.median(of_rounds))
    rows = [one.row() for one in timed] + [_proxied_row(*one) for one in proxied]
    return [*rows, *_means(ratios)]


def _proxied_row(item: Item, ours: list[float], theirs: list[float], size: int) -> Row:
    return compare(
        f"50 ms, {_MBIT_S} Mbit/s: {item.label}: {_BY_PROXY} / HTTP zstd:19",
        ours,
        theirs,
        "s",
        at_most=True,
        note=f"{size / 1e6:.2f} MB moved by HTTP zstd:19",
    )


def _means(ratios: dict[str, list[float]]) -> Sequence[Row]:
    return [
        compare(
            f"50 ms, {_MBIT_S} Mbit/s: {case} / HTTP zstd:19, geometric mean of {len(found)}",
            [statistics.geometric_mean(found)],
            [1.0],
            "",
            *_BARS[case],
            at_most=True,
        )
        for case, found in ratios.items()
    ]


def _case(directory: Path, name: str, old: Path, new: Path) -> Case:
    # One name, two versions: so a publisher knows which is the one before.
    before = _item(directory, name, "0", old)
    item = _item(directory, name, "1", new)
    return Case(item, (_NAR,), (_PACKED,), {_UPGRADE: before}, delta=_DELTA, before=before)


def _item(directory: Path, name: str, version: str, tree: Path) -> Item:
    path = item_path(directory, f"{name}-{version}")
    shutil.copytree(tree, path, symlinks=True)
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return Item(name, path, len(files), sum(file.stat().st_size for file in files))

"""Substitutes out of blocks beside the same nar over HTTP, near and far, and where HTTP wins.

The items are generated. For an upgrade the near side has a daemon with the blocks of the release
before, from which a tenth of the files changed, and the fetcher is told of both daemons.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import chain
from typing import Final

from benchmarks.report import Row
from benchmarks.scratch import kept_directory
from benchmarks.substitutes import memory, narinfos, proxied, query
from benchmarks.substitutes.bench import Bench, Case
from benchmarks.substitutes.items import Item, make_item, make_older
from benchmarks.substitutes.programs import Publication

__all__ = ["run"]

_STANDARD: Final = Publication(
    "ERIS standard", ("-C", "none", "--eris-format", "standard"), eris=True
)
_PACKED: Final = Publication("ERIS packed", ("-C", "none", "--eris-format", "packed"), eris=True)
# Fetching hardly feels the level; baking 300 MB at the default would take a minute and a half.
_PACKED_3: Final = Publication(
    "ERIS packed, level 3", (*_PACKED.options, "--eris-level", "3"), eris=True
)
_NARS: Final = tuple(
    Publication(f"HTTP {name}", ("-C", name), eris=False) for name in ("zstd:3", "gzip:3", "none")
)
_SMALL: Final = ("1 MB of 200 files", 200, 1_000_000)
_MIDDLE: Final = ("30 MB of 1,500 files", 1_500, 30_000_000)
_LARGE: Final = ("300 MB of 15,000 files", 15_000, 300_000_000)


def run(rounds: int) -> list[Row]:
    """Measure all cases; the large item and the link with fewer rounds."""
    few = (rounds + 1) // 2
    scratch = kept_directory()
    with ExitStack() as stack:
        bench = Bench(scratch, stack)
        small, middle, large = (make_item(bench.items, *what) for what in (_SMALL, _MIDDLE, _LARGE))
        cases = [_case(small, _PACKED), _case(middle, _PACKED), _case(large, _PACKED_3)]
        for case in cases:
            bench.bake(case)
        rows = [bench.start_row(2 * rounds)]
        timed = chain(
            bench.here([(cases[0], 2 * rounds), (cases[2], few)]),
            bench.far(50, [(case, few) for case in cases[:2]]),
        )
        rows += [one.row() for one in timed]
        rows += proxied.run(scratch, _PACKED_3, _NARS[0], [(middle, 2 * rounds), (large, few)])
        return [
            *rows,
            *narinfos.run(rounds),
            *query.run(scratch, rounds),
            *memory.run(scratch),
            *memory.run_deltas(scratch),
        ]


def _case(item: Item, packed: Publication) -> Case:
    older = {
        "upgrade, scattered": make_older(item, "scattered"),
        "upgrade, side by side": make_older(item, "side by side"),
    }
    return Case(item, _NARS, (_STANDARD, packed), older, warm=True)

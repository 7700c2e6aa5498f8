"""The largest resident memory of each program while an item of 1 GiB is published and fetched.

And while it is fetched by a delta from another one of that size, with a byte here and there that is
another, and some that are new, so that all else is elsewhere.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Final

from benchmarks.report import Row, single
from benchmarks.substitutes.items import Item, item_path
from benchmarks.substitutes.programs import (
    HERE,
    Fetcher,
    Publication,
    kaplad,
    offers,
    peak_mib,
    publish,
)

__all__ = ["run", "run_deltas"]

_SIZE: Final = 1 << 30
_STEP: Final = 1 << 20
_BAR: Final = 200.0
_DELTA_BAR: Final = 300.0
_PUBLICATION: Final = Publication("memory", ("-C", "zstd:3"), eris=True)
_DELTAS: Final = Publication("deltas", ("-C", "none"), eris=True, deltas=True)
# Of so many MiB one has changed.
_CHANGED: Final = 50


def run(scratch: Path) -> list[Row]:
    """Publish it as zstd:3 and into a store, by default options, and fetch it from either."""
    item = _make_item(scratch / "huge")
    fetcher = Fetcher(HERE, scratch / "out", scratch / "etc")
    with (
        kaplad(HERE, scratch / "huge-store") as store,
        publish(
            HERE,
            _PUBLICATION,
            items=scratch / "huge",
            cache=scratch / "cache",
            keys=scratch / "etc",
            store=store.url,
        ) as server,
    ):
        begin = time.perf_counter()
        offers(server, [item])
        baking_s = time.perf_counter() - begin
        out_of_blocks = fetcher.fetch(item, server, [store.url])
        over_http = fetcher.fetch(item, server)
        found = (
            ("kapla publish", peak_mib(server.process), f"baked in {baking_s:.0f} s"),
            ("kaplad", peak_mib(store.process), "its part of both"),
            ("kapla substitute, blocks", out_of_blocks.peak_mib, f"{out_of_blocks.seconds:.1f} s"),
            ("kapla substitute, zstd:3", over_http.peak_mib, f"{over_http.seconds:.1f} s"),
        )
    return [
        single(f"1 GiB item, peak RSS of {name}", [peak], "MiB", _BAR, at_most=True, note=note)
        for name, peak, note in found
    ]


def run_deltas(scratch: Path) -> list[Row]:
    """Publish both items, with a delta, and fetch the second by it."""
    before = _make_item(scratch / "upgrade", "huge-0")
    item = _make_item(scratch / "upgrade", "huge-1", changed=_CHANGED)
    fetcher = Fetcher(HERE, scratch / "out", scratch / "etc")
    with (
        kaplad(HERE, scratch / "upgrade-store") as store,
        publish(
            HERE,
            _DELTAS,
            items=scratch / "upgrade",
            cache=scratch / "cache",
            keys=scratch / "etc",
            store=store.url,
        ) as server,
    ):
        offers(server, [before])
        offers(server, [item])
        by_delta = fetcher.fetch(item, server, [store.url])
        found = (
            ("kapla publish", peak_mib(server.process), ""),
            ("kapla substitute", by_delta.peak_mib, f"{by_delta.seconds:.1f} s"),
        )
    return [
        single(
            f"1 GiB by a delta from 1 GiB, peak RSS of {name}",
            [peak],
            "MiB",
            _DELTA_BAR,
            at_most=True,
            note=note,
        )
        for name, peak, note in found
    ]


def _make_item(directory: Path, name: str = "huge", changed: int | None = None) -> Item:
    """One file in a directory: of each MiB the first half is random, the other zeroes.

    Of `changed` of these MiB one is a bit longer than in another item, and has other bytes.
    """
    path = item_path(directory, name)
    path.mkdir(parents=True)
    source, other = random.Random(1), random.Random(2)
    size = 0
    with (path / "image").open("wb") as file:
        for number in range(_SIZE // _STEP):
            content = source.randbytes(_STEP // 2) + bytes(_STEP // 2)
            if changed is not None and number % changed == 0:
                content = (
                    other.randbytes(10) + content[:1000] + other.randbytes(10) + content[1010:]
                )
            size += file.write(content)
    return Item("1 GiB", path, 1, size)

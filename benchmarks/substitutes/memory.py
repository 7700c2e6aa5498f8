"""The largest resident memory of each program while an item of 1 GiB is published and fetched."""

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

__all__ = ["run"]

_SIZE: Final = 1 << 30
_STEP: Final = 1 << 20
_BAR: Final = 200.0
_PUBLICATION: Final = Publication("memory", ("-C", "zstd:3"), eris=True)


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


def _make_item(directory: Path) -> Item:
    """One file in a directory: of each MiB the first half is random, the other zeroes."""
    path = item_path(directory, "huge")
    path.mkdir(parents=True)
    source = random.Random(1)
    with (path / "image").open("wb") as file:
        for _ in range(_SIZE // _STEP):
            file.write(source.randbytes(_STEP // 2) + bytes(_STEP // 2))
    return Item("1 GiB", path, 1, _SIZE)

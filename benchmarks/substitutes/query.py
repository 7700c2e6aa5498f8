"""How many narinfos a second are fetched, checked and told: the query before every build."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import IO, Final

from benchmarks.report import Row, single
from benchmarks.substitutes.items import Item, item_path
from benchmarks.substitutes.programs import HERE, Fetcher, Publication, Server, offers, publish

__all__ = ["run"]

_ITEMS: Final = 1000
_BAR: Final = 1.0
_GOAL: Final = 2.0
_PUBLICATION: Final = Publication("query", ("-C", "zstd:3"), eris=True)


def run(scratch: Path, rounds: int) -> list[Row]:
    """Measure; the server has baked everything and signed it before. `scratch`/etc has keys."""
    items = [_make_item(scratch / "many", number) for number in range(_ITEMS)]
    rates, rates_with_start = [], []
    with publish(
        HERE, _PUBLICATION, items=scratch / "many", cache=scratch / "cache", keys=scratch / "etc"
    ) as server:
        offers(server, items)
        fetcher = Fetcher(HERE, scratch / "out", scratch / "etc")
        for _ in range(2 * rounds):
            rates_with_start.append(_rate(fetcher, server, items, started=False))
            rates.append(_rate(fetcher, server, items, started=True))
    name = f"--query of {_ITEMS:,} items"
    rows = [
        single(name, rates, "items/ms", _BAR, note="the process has answered a query before"),
        single(f"{name}, the start included", rates_with_start, "items/ms", _BAR),
    ]
    for row in rows:
        row["goal"] = _GOAL
    return rows


def _make_item(directory: Path, number: int) -> Item:
    directory.mkdir(exist_ok=True)
    path = item_path(directory, f"small-{number}")
    path.write_text(f"item {number}\n")
    return Item(f"small {number}", path, 1, path.stat().st_size)


def _rate(fetcher: Fetcher, server: Server, items: list[Item], *, started: bool) -> float:
    """Items a millisecond, of a new process."""
    line = "".join(f"{item.store_path(server.store_dir)} " for item in items)
    absent = item_path(Path(server.store_dir), "absent")
    with tempfile.TemporaryFile() as messages:
        begin = time.perf_counter()
        with fetcher.start("--query", server, (), messages) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if started:
                _ask(process.stdin, process.stdout, f"have {absent} ")
                begin = time.perf_counter()
            reply = _ask(process.stdin, process.stdout, f"info {line}")
            seconds = time.perf_counter() - begin
    # Path, no deriver, no references, two sizes.
    if len(reply) != 5 * len(items):
        raise RuntimeError(f"{len(reply)} lines are not the details of {len(items)} items")
    return len(items) / seconds / 1000


def _ask(commands: IO[bytes], replies: IO[bytes], command: str) -> list[bytes]:
    """The lines of a reply, up to the one that is empty; that of a missing deriver is another."""
    commands.write(f"{command}\n".encode())
    commands.flush()
    lines: list[bytes] = []
    while True:
        line = replies.readline()
        if line in (b"", b"\n") and len(lines) % 5 == 0:
            return lines
        lines.append(line)

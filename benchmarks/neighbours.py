"""What busy neighbours leave to a connection: GETs beside 200 requests of any one kind.

One client fetches blocks of 1 KiB, 64 at a time, over the Unix socket: alone, then beside another
process that always has 200 requests of one kind under way on a single connection, over the same
socket or over TCP, or 16 on each of 200 connections over TCP. Both spans belong to one round; the
figure is the second rate over the first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.busy import (
    CROWD,
    EMPTY,
    PRESENT,
    WINDOW,
    Address,
    Client,
    fill,
    get,
    kinds,
    neighbours,
    rate,
)
from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import kaplad
from eris import BlockSize

__all__ = ["run"]

_OF_A_CROWD: Final = ("GET of unknown blocks", "nothing", "60 options", ".well-known/core")
# With 200 of these at once a connection sends more messages than are taken, and is ended.
_REFUSED: Final = (EMPTY,)
_BAR: Final = 0.3


def _compare(
    name: str, client: Client, rounds: int, address: Address, kind: str, crowd: int
) -> Row:
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(rate(client))
        with neighbours(address, kind, crowd):
            beside.append(rate(client))
    return compare(name, beside, alone, "blocks/s", _BAR)


def run(rounds: int, wanted: tuple[str, ...] = ()) -> list[Row]:
    """Measure every kind over this many rounds."""
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="kb-") as directory,
        kaplad(Path(directory)) as (_, port, _process),
    ):
        local = str(Path(directory) / "s")
        fill(local)
        addresses: dict[str, Address] = {"Unix": local, "TCP": ("127.0.0.1", port)}
        client = Client(local, get(BlockSize.SMALL, 0, PRESENT), WINDOW)
        for kind in wanted or [kind for kind in kinds() if kind not in _REFUSED]:
            for where, address in addresses.items():
                name = f"GETs beside 200 x {kind}, {where}"
                rows.append(_compare(name, client, rounds, address, kind, 1))
            if kind in _OF_A_CROWD:
                name = f"GETs beside {CROWD} peers, {kind}"
                rows.append(_compare(name, client, rounds, addresses["TCP"], kind, CROWD))
    return rows


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3, tuple(sys.argv[2:])):
        print(format_row(row))


if __name__ == "__main__":
    main()

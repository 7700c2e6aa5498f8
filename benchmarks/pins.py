"""What pins cost: one over a million blocks, a thousand over a thousand each, and an encode's own.

A content of a million blocks of 1 KiB is stored without a pin, and then pinned by `kapla pin`. A
thousand pins over any thousand of these blocks follow, and the daemon's memory before and after is
compared. At last a file is encoded with its pin and without, in turn, each time a new one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading, single
from benchmarks.wire import kaplad
from eris.model import Reference
from kapla.block_list import ListReader
from kapla.client import RemoteStore
from kapla.pinning import Pins
from kapla.urls import parse_store_url

__all__ = ["run"]

_CONTENT: Final = 970_000_000
"""Bytes: 1,010,420 blocks of 1 KiB."""
_PINS: Final = 1000
_BLOCKS_OF_A_PIN: Final = 1000
_ENCODED: Final = 200 * 1024 * 1024
_MOST_SECONDS: Final = 10.0
_MOST_MIB: Final = 20.0
_ENCODE_BAR: Final = 0.95
_PIECE: Final = 16 * 1024 * 1024


def run(rounds: int) -> list[Row]:
    """Measure all three."""
    with tempfile.TemporaryDirectory(prefix="kp-") as scratch:
        directory = Path(scratch)
        with kaplad(directory) as (url, _, process):
            kapla = _Kapla(directory, url)
            content = directory / "content"
            _write(content, _CONTENT)
            urn = kapla("encode", "--block-size", "1KiB", "--no-pin", "--no-catalogue", content)
            content.unlink()
            seconds = [_seconds(kapla, "pin", "--name", "all", urn) for _ in range(rounds)]
            memory = _of_a_thousand(kapla, url, directory / "list", process)
            pinned, plain = _encodes(kapla, directory / "file", max(rounds, 7))
    return [
        single("a pin of 10⁶ blocks", seconds, "s", _MOST_SECONDS, at_most=True),
        single("daemon, for 1,000 pins of 10³", [memory], "MiB", _MOST_MIB, at_most=True),
        compare("encode with its pin / without", pinned, plain, "MB/s", _ENCODE_BAR),
    ]


class _Kapla:
    """The command line."""

    def __init__(self, home: Path, url: str) -> None:
        self._environment = {**os.environ, "HOME": str(home), "ERIS_STORE_URL": url}
        self._program = Path(sys.executable).with_name("kapla")

    def __call__(self, *arguments: str | Path) -> str:
        ended = subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return ended.stdout.strip()


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - start)))


def _seconds(kapla: _Kapla, *arguments: str | Path) -> float:
    begin = time.perf_counter()
    kapla(*arguments)
    return time.perf_counter() - begin


def _of_a_thousand(kapla: _Kapla, url: str, path: Path, process: int) -> float:
    """By how many MiB the daemon grows for pins over any blocks."""
    kapla("list-blocks", path)
    references = ListReader().feed(path.read_bytes())
    asyncio.run(_pin_some(url, references, "first"))
    before = _memory_mib(process)
    for number in range(_PINS):
        asyncio.run(_pin_some(url, references, f"pin {number}"))
    return _memory_mib(process) - before


async def _pin_some(url: str, references: list[Reference], name: str) -> None:
    chosen = random.Random(name).sample(references, _BLOCKS_OF_A_PIN)
    async with (
        RemoteStore(parse_store_url(url)) as store,
        await Pins(store).open() as pin,
    ):
        assert all(await pin.want(chosen))
        await pin.close(root=None, name=name)


def _memory_mib(process: int) -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _encodes(kapla: _Kapla, path: Path, rounds: int) -> tuple[list[float], list[float]]:
    rates: dict[str, list[float]] = {"--pin": [], "--no-pin": []}
    for number in range(rounds):
        for way in list(rates)[:: 1 if number % 2 else -1]:
            _write(path, _ENCODED)
            options = [way] if way == "--no-pin" else []
            seconds = _seconds(kapla, "encode", "--no-catalogue", *options, path)
            rates[way].append(_ENCODED / 1e6 / seconds)
    return rates["--pin"], rates["--no-pin"]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(3):
        print(format_row(row))


if __name__ == "__main__":
    main()

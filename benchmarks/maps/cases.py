"""Maps: round trips of a look-up in a million items, and items a second of building one.

`counted`: a store in memory that answers each request 50 ms later, however many there are at once;
what is told is how many round trips were waited for. `link`: time, with a kaplad behind an emulated
link of 50 ms and 100 Mbit/s, whose connection is open; there bytes count, too, and how TCP begins
to send. The map has 98 MiB; each round has a reader of its own, and looks up 40 items at random.

`build`: items of up to three files of texts, 5 KB together, as scripts, derivations and profiles
are, and of up to nine, 18 KB together; by `kapla map build`, computing URNs only, at the level of
publishers, from the start of the command to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.link.emulator import Link, link
from benchmarks.maps.far import FarStore
from benchmarks.network import NetworkUnavailable
from benchmarks.report import Row, format_row, heading, single
from eris import MemoryStore, put_content
from guix_glue.formats.item_map import (
    ENTRY_SIZE,
    KEY_SIZE,
    Contents,
    Entry,
    MapFacts,
    hash_part_at,
)
from guix_glue.maps.blocks import BlockMap

__all__ = ["run"]

_ITEMS: Final = 1_000_000
_LOOKED_UP: Final = 40
_RTT_S: Final = 0.05
_MBIT_S: Final = 100
_BUILT: Final = 1500
_PORT: Final = 5683
_BARS: Final = {"first": (5.0, 3.0), "later": (2.5, 1.5)}
_WORDS: Final = {3: 500, 9: 800}
"""How many words a file has at most, of nine bytes each, by how many files an item has."""
_BUILD_BARS: Final = (70.0, 300.0)


def run(rounds: int) -> list[Row]:
    """Measure; rows to be shown."""
    contents = _contents()
    keys = [hash_part_at(entry.key) for entry in contents]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "items.map"
        with file.open("wb") as out:
            for piece in contents.format():
                out.write(piece)
        del contents
        rows = _rows("counted", asyncio.run(_counted(file.read_bytes(), keys, rounds)))
        try:
            rows += _rows("link", _over_link(directory, file, keys, rounds))
        except NetworkUnavailable as error:
            print(f"  link: skipped, {error}")
        rows.append(_built("5 KB", directory / "small", 3, rounds, *_BUILD_BARS))
        rows.append(_built("18 KB", directory / "medium", 9, rounds))
    return rows


def _rows(where: str, taken: list[list[float]]) -> list[Row]:
    """Of the round trips that each look-up took, in each round."""
    first = [one[0] for one in taken]
    later = [statistics.mean(one[1:]) for one in taken]
    return [
        single(f"look-up in 10⁶ items, {where}, {name}", values, "rtt", *_BARS[name], at_most=True)
        for name, values in (("first", first), ("later", later))
    ]


def _contents() -> Contents:
    source = random.Random(1)
    value = ENTRY_SIZE - KEY_SIZE
    made = (Entry(source.randbytes(KEY_SIZE), source.randbytes(value)) for _ in range(_ITEMS))
    return Contents.of(MapFacts("/gnu/store", "kapla-packed-1 level 19"), made)


async def _counted(data: bytes, keys: list[str], rounds: int) -> list[list[float]]:
    memory = MemoryStore()
    capability = await put_content(memory, data)
    source = random.Random(2)
    taken = []
    for _ in range(rounds):
        far = FarStore(memory, _RTT_S)
        one = BlockMap(far, capability)
        trips: list[float] = []
        for hash_part in source.sample(keys, _LOOKED_UP):
            before = far.trips
            await one.find(hash_part)
            trips.append(far.trips - before)
        await one.close()
        taken.append(trips)
    return taken


def _over_link(directory: Path, file: Path, keys: list[str], rounds: int) -> list[list[float]]:
    source = random.Random(3)
    wanted = directory / "wanted"
    with link(rtt_ms=_RTT_S * 1000, mbit_s=_MBIT_S) as wire, _kaplad(wire, directory) as url:
        kapla = Path(sys.executable).with_name("kapla")
        done = subprocess.run(
            [kapla, "encode", "-q", "--no-cache", file],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "ERIS_STORE_URL": url},
        )
        taken = []
        for _ in range(rounds):
            wanted.write_text("\n".join([done.stdout, *source.sample(keys, _LOOKED_UP)]))
            taken.append(_probed(wire, wanted))
        return taken


@contextmanager
def _kaplad(wire: Link, directory: Path) -> Iterator[str]:
    """A daemon on the far side; gives its Unix socket, which belongs to no side."""
    url = f"coap+unix://{directory}/s"
    command = wire.far.command(
        *(Path(sys.executable).with_name("kaplad"), "--store", directory / "b.sqlite"),
        *("--listen", url, "--listen", f"coap+tcp://{wire.far.address}:{_PORT}?get"),
    )
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while "Listening on TCP" not in (line := process.stderr.readline()):
                if not line:
                    raise RuntimeError("kaplad did not start")
            yield url
        finally:
            process.terminate()
            process.communicate()


def _probed(wire: Link, wanted: Path) -> list[float]:
    command = wire.near.command(
        *(sys.executable, "-m", "benchmarks.maps.probe"),
        *(f"coap+tcp://{wire.far.address}:{_PORT}", wanted),
    )
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [seconds / _RTT_S for seconds in json.loads(done.stdout)]


def _built(
    label: str,
    directory: Path,
    most_files: int,
    rounds: int,
    bar: float | None = None,
    goal: float | None = None,
) -> Row:
    items = _items(directory / "store", most_files)
    kapla = Path(sys.executable).with_name("kapla")
    rates = []
    for number in range(rounds):
        command: list[str | Path] = [
            kapla,
            "map",
            "build",
            directory / f"built-{number}.map",
            "--from",
            "-",
        ]
        begin = time.perf_counter()
        subprocess.run(command, check=True, input="\n".join(map(str, items)), text=True)
        rates.append(len(items) / (time.perf_counter() - begin))
    return single(f"map build, items of {label}, URNs only", rates, "items/s", bar, goal)


def _items(root: Path, most_files: int) -> list[Path]:
    """Texts, and a link, some of them large for a script."""
    source = random.Random(4)
    words = [source.randbytes(4).hex() for _ in range(2000)]
    items = []
    for entry in range(_BUILT):
        item = root / f"{hash_part_at(source.randbytes(KEY_SIZE))}-item-{entry}"
        (item / "share").mkdir(parents=True)
        for number in range(source.randint(1, most_files)):
            text = " ".join(source.choices(words, k=source.randrange(10, _WORDS[most_files])))
            (item / "share" / f"file-{number}").write_text(text)
        (item / "link").symlink_to("share/file-0")
        items.append(item)
    return items


if __name__ == "__main__":
    print(heading())
    for row in run(3):
        print(format_row(row))

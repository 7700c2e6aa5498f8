"""What a block costs in a small store and in a large one, through the daemon.

Stores of 10⁴ blocks of 1 KiB, ten times as many, and so on are filled without the daemon, with
blocks whose references are made up: it does not look at them when it reads. Then the stores take
turns, a round each: `kaplad` is started on the file while none of it is in the page cache, blocks
are fetched at random before and after the file is read into the cache, and new ones are put: as
many as one cycle of the index takes, so that all its work is in the figure. The client keeps 64
requests in flight and does nothing else.

The largest store is 10⁷ blocks, or what KAPLA_BENCH_GROWTH says. That many take
13 GB of disk, as much memory for the page cache, and some five minutes. All files are deleted
afterwards; where the disk has too little room, the larger stores are left out with a word.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading, single
from benchmarks.wire import kaplad
from eris import BlockSize, Reference
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, FrameReader, format_frame
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.recent import GENERATION
from kapla.storage.sqlite.writer import SqliteWriter

__all__ = ["DEFAULT_LARGEST", "run"]

DEFAULT_LARGEST: Final = 10**7

_SMALLEST: Final = 10**4
_COMPARED_WITH: Final = 10**5
_BARS_ARE_FOR: Final = 10**7
_BYTES_A_BLOCK: Final = 1250  # in the file, with all that is around a block of 1 KiB
# A store this small would be another one after a round of new blocks: each round takes a copy.
_COPIED_UP_TO: Final = 10**5
_FILL_BATCH: Final = 16384
_FILL_CACHE: Final = 1 << 28
_GETS: Final = 50_000
_COLD_GETS: Final = 2_000
_WINDOW: Final = 64
_CSM: Final = bytes.fromhex("50e12310000020")
_NOISE: Final = random.Random(0).randbytes(1 << 16)

_Figures = dict[tuple[str, int], list[float]]


def run(rounds: int, largest: int | None = None) -> list[Row]:
    """Measure stores up to `largest` blocks over this many rounds."""
    if largest is None:
        largest = int(os.environ.get("KAPLA_BENCH_GROWTH", DEFAULT_LARGEST))
    sizes = [_SMALLEST]
    while sizes[-1] * 10 <= largest:
        sizes.append(sizes[-1] * 10)
    figures: _Figures = defaultdict(list)
    starts = []
    with tempfile.TemporaryDirectory(prefix="kb-") as scratch:
        sizes = _what_fits(sizes, Path(scratch), rounds)
        stores = {size: Path(scratch) / str(size) for size in sizes}
        for size, store in stores.items():
            store.mkdir()
            _fill(store / "b.sqlite", size)
        for number in range(rounds):
            with tempfile.TemporaryDirectory(prefix="kb-") as empty:
                begin = time.perf_counter()
                with kaplad(Path(empty)):
                    starts.append(time.perf_counter() - begin)
            for size, store in stores.items():
                with _for_one_round(store, size) as directory:
                    _measure(directory, size, number, figures)
    return _rows(figures, sizes, starts)


def _rows(figures: _Figures, sizes: Sequence[int], starts: list[float]) -> list[Row]:
    rows = []
    for kind, unit in (
        ("GET", "µs"),
        ("PUT", "µs"),
        ("written for each PUT", "bytes"),
        ("GET, cold page cache", "µs"),
    ):
        for size in sizes:
            processor = figures.get((f"{kind}, processor", size))
            note = ""
            if processor is not None:
                note = f"{statistics.median(processor):.1f} µs of the daemon's processor time"
            rows.append(single(f"{kind}, {size:,} blocks", figures[kind, size], unit, note=note))
    largest, small = sizes[-1], _COMPARED_WITH
    if largest > small:
        for kind, bar, goal in (("PUT", 3.0, 1.5), ("GET", 2.0, 1.3)):
            case = f"{kind}, {largest:,} / {small:,} blocks"
            here, there = figures[kind, largest], figures[kind, small]
            if largest >= _BARS_ARE_FOR:
                rows.append(compare(case, here, there, "µs", bar, goal, at_most=True))
            else:
                note = f"bars are for {_BARS_ARE_FOR:,} blocks"
                rows.append(compare(case, here, there, "µs", at_most=True, note=note))
    note = f"until it listens, page cache cold; {statistics.median(starts):.2f} s with a new store"
    case = f"start of kaplad, {largest:,} blocks"
    rows.append(single(case, figures["start", largest], "s", 1.0, at_most=True, note=note))
    return rows


def _what_fits(sizes: Sequence[int], scratch: Path, rounds: int) -> list[int]:
    """The sizes for which there is room on the disk, all at once."""
    room = shutil.disk_usage(scratch).free * 0.9
    fitting = []
    for size in sizes:
        # The copy of a round, or what all rounds add; and the WAL.
        room -= (size + GENERATION * rounds + min(size, _COPIED_UP_TO)) * _BYTES_A_BLOCK
        if room < 0:
            print(f"growth: no room on the disk for {size:,} blocks", file=sys.stderr)
            break
        fitting.append(size)
    if not fitting:
        raise RuntimeError("the disk is full")
    return fitting


def _reference(number: int) -> Reference:
    return Reference(blake2b(number.to_bytes(8, "big"), digest_size=32).digest())


def _block(number: int) -> bytes:
    start = number * 61 % (len(_NOISE) - 1016)
    return number.to_bytes(8, "big") + _NOISE[start : start + 1016]


def _fill(path: Path, count: int) -> None:
    writer = SqliteWriter(open_database(SqliteSettings(path, cache_bytes=_FILL_CACHE)))
    try:
        for start in range(0, count, _FILL_BATCH):
            numbers = range(start, min(start + _FILL_BATCH, count))
            writer.put_many({_reference(number): _block(number) for number in numbers})
        writer.checkpoint()
    finally:
        writer.close()


@contextmanager
def _for_one_round(store: Path, size: int) -> Iterator[Path]:
    if size > _COPIED_UP_TO:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="kb-") as directory:
        shutil.copyfile(store / "b.sqlite", Path(directory) / "b.sqlite")
        yield Path(directory)


def _drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # what is not yet on the disk stays in the cache
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_into_cache(path: Path) -> None:
    buffer = bytearray(1 << 22)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _measure(directory: Path, size: int, number: int, figures: _Figures) -> None:
    """One round with one store."""
    path = directory / "b.sqlite"
    source = random.Random(f"{size} {number}")
    _drop_from_cache(path)
    written_by_others = _written_by_children()
    begin = time.perf_counter()
    with kaplad(directory) as (_, _, process):
        figures["start", size].append(time.perf_counter() - begin)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(directory / "s"))
            connection.sendall(_CSM)

            def timed(kind: str, frames: Sequence[bytes], good: int) -> None:
                processor = _processor_time(process)
                seconds = _exchange(connection, frames, good)
                processor = _processor_time(process) - processor
                figures[kind, size].append(seconds / len(frames) * 1e6)
                figures[f"{kind}, processor", size].append(processor / len(frames) * 1e6)

            cold, warm = (source.choices(range(size), k=count) for count in (_COLD_GETS, _GETS))
            timed("GET, cold page cache", _get_frames(cold), Code.CONTENT)
            _read_into_cache(path)
            timed("GET", _get_frames(warm), Code.CONTENT)
            written_before = _written(process)
            new = [source.randbytes(1024) for _ in range(GENERATION)]
            timed("PUT", _put_frames(new), Code.CREATED)
    # Known once the daemon has ended, and with it the last checkpoint.
    written = _written_by_children() - written_by_others - written_before
    figures["written for each PUT", size].append(written / GENERATION)


def _processor_time(process: int) -> float:
    """Seconds that all threads of a process have run."""
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _written(process: int) -> int:
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _written_by_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock * 512


def _get_frames(numbers: Sequence[int]) -> list[bytes]:
    frames = []
    for token, number in enumerate(numbers):
        body = get_options((), block_query(_reference(number)), BlockSize.SMALL)
        frames.append(format_frame(Code.GET, token.to_bytes(3, "big"), body))
    return frames


def _put_frames(blocks: Sequence[bytes]) -> list[bytes]:
    options = put_options(()) + b"\xff"
    return [
        format_frame(Code.PUT, token.to_bytes(3, "big"), options + block)
        for token, block in enumerate(blocks)
    ]


def _exchange(connection: socket.socket, frames: Sequence[bytes], good: int) -> float:
    """Send requests, as many at a time as answers have come; returns seconds."""
    reader = FrameReader(1 << 20)
    begin = time.perf_counter()
    sent = answered = 0
    while answered < len(frames):
        upto = min(answered + _WINDOW, len(frames))
        if upto > sent:
            connection.sendall(b"".join(frames[sent:upto]))
            sent = upto
        for frame in reader.feed(connection.recv(1 << 18)):
            if frame[0] >= 0xE0:
                continue
            if frame[0] != good:
                raise RuntimeError(f"answer {frame[0]:#x}")
            answered += 1
    return time.perf_counter() - begin


def main() -> None:
    """Print the table; draw it, if asked to."""
    from benchmarks import plot

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--largest", type=int, help="blocks in the largest store")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    print(heading())
    rows = run(arguments.rounds, arguments.largest)
    for row in rows:
        print(format_row(row))
    if arguments.plot is not None:
        arguments.plot.write_text(plot.draw(rows))


if __name__ == "__main__":
    main()

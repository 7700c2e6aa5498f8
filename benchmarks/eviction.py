"""What a cap costs: kaplad at its cap and below it, and which blocks it keeps.

`PUT at the cap`: a store is filled to its cap, and more is put; below the cap, the same into a
store that has room for all. The two take turns. `GET beside PUTs`: one connection fetches what was
put last while another puts; the one below the cap puts as fast as the one at the cap did.
`overshoot`: the database, its WAL and its reserve, looked at every few milliseconds.
`hits`: simulated traces, against LRU of the same size; the hand is kaplad's own.

Stores have 10⁵ blocks of 1 KiB and a tenth of it of 32 KiB; KAPLA_BENCH_EVICTION says otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.report import Row, compare, format_row, heading, single
from eris import BlockSize, reference_of
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, FrameReader, format_frame
from kapla.storage.sqlite.keeping.hand import Candidate, choose
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["run"]

_DEFAULT_BLOCKS: Final = 10**5
_WINDOW: Final = 64
_CSM: Final = bytes.fromhex("50e12310000020")
_BARS: Final = {BlockSize.SMALL: (0.6, 0.8), BlockSize.LARGE: (0.7, 0.8)}
_BYTES: Final = {BlockSize.SMALL: 1200, BlockSize.LARGE: 37000}
"""In the file, with all that is around a block."""
_BESIDE: Final = {BlockSize.SMALL: 40_960, BlockSize.LARGE: 8192}
"""PUTs beside GETs: some seconds, in which many batches are evicted."""
_TRACE: Final = 200_000
_BATCH_PART: Final = 128


def run(rounds: int, blocks: int | None = None) -> list[Row]:
    """Measure over this many rounds, with so many blocks of 1 KiB."""
    if blocks is None:
        blocks = int(os.environ.get("KAPLA_BENCH_EVICTION", _DEFAULT_BLOCKS))
    rows = []
    for size, count in ((BlockSize.SMALL, blocks), (BlockSize.LARGE, blocks // 10)):
        rows += _measured(size, count, rounds)
    return rows + _hits()


def _measured(size: BlockSize, count: int, rounds: int) -> list[Row]:
    cap = count * _BYTES[size] + (32 << 20)
    puts: dict[bool, list[float]] = {True: [], False: []}
    gets: dict[bool, list[float]] = {True: [], False: []}
    slow: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        stores = {
            has_cap: stack.enter_context(_filled(size, count, cap if has_cap else 16 * cap))
            for has_cap in (True, False)
        }
        for number in range(rounds):
            rate = 0.0
            for has_cap, store in stores.items():
                source = random.Random(f"{number} {size}")
                rate_here = _put(store.directory, source, size, count // 4)
                puts[has_cap].append(rate_here)
                rate = rate if rate else 0.8 * rate_here / 2
                per_second, p99 = _get_beside_puts(store.directory, source, size, rate)
                gets[has_cap].append(per_second)
                slow[has_cap].append(p99 * 1000)
        over = 100 * max(0, max(stores[True].samples) - cap) / cap
    bar, goal = _BARS[size]
    label = size.label
    beside = "of the same while the store is below its cap"
    return [
        compare(f"PUT at the cap, {label}", puts[True], puts[False], "blocks/s", bar, goal),
        compare(f"GET beside PUTs, {label}", gets[True], gets[False], "blocks/s", 0.8, note=beside),
        compare(f"GET beside PUTs, p99, {label}", slow[True], slow[False], "ms", 2.0, at_most=True),
        single(f"overshoot of a cap of {cap >> 20} MiB, {label}", [over], "%", 1.0, at_most=True),
    ]


class _Filled(NamedTuple):
    """A store that was filled to where its cap is, or would be, and its sizes since it is there."""

    directory: Path
    samples: list[int]


@contextmanager
def _filled(size: BlockSize, count: int, cap: int) -> Iterator[_Filled]:
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        directory = Path(name)
        with _kaplad(directory, cap), _sampled(directory) as samples:
            _put(directory, random.Random(f"{size}"), size, count + count // 4)
            yield _Filled(directory, samples)


@contextmanager
def _kaplad(directory: Path, cap: int) -> Iterator[None]:
    url = f"coap+unix://{directory}/s?get&put"
    program = Path(sys.executable).with_name("kaplad")
    arguments = ["--store", str(directory / "b.sqlite"), "--listen", url, "--max-size", str(cap)]
    with subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while "Listening" not in (line := process.stderr.readline()):
                if not line:
                    raise RuntimeError("kaplad did not start")
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _sampled(directory: Path) -> Iterator[list[int]]:
    samples = [0]
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.005):
            total = 0
            for suffix in ("", "-wal", "-reserve"):
                try:
                    total += os.stat(directory / f"b.sqlite{suffix}").st_size
                except FileNotFoundError:
                    continue
            samples.append(total)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


class _Peer:
    """A connection with so many requests in flight."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(directory / "s"))
        self._socket.sendall(_CSM)
        self._reader = FrameReader(1 << 20)

    def exchange(self, frames: Sequence[bytes], good: int) -> None:
        """Send these at once and wait for all answers."""
        self._socket.sendall(b"".join(frames))
        answered = 0
        while answered < len(frames):
            for frame in self._reader.feed(self._socket.recv(1 << 18)):
                if frame[0] >= 0xE0:
                    continue
                if frame[0] != good:
                    raise RuntimeError(f"answer {frame[0]:#x}")
                answered += 1

    def close(self) -> None:
        self._socket.close()


def _put_frames(source: random.Random, size: BlockSize, count: int) -> list[bytes]:
    options = put_options(()) + b"\xff"
    return [format_frame(Code.PUT, b"p", options + source.randbytes(size)) for _ in range(count)]


def _put(directory: Path, source: random.Random, size: BlockSize, count: int) -> float:
    """Put new blocks; returns how many a second, without the time to make them."""
    peer = _Peer(directory)
    seconds = 0.0
    for _ in range(0, count, _WINDOW):
        frames = _put_frames(source, size, _WINDOW)
        begin = time.perf_counter()
        peer.exchange(frames, Code.CREATED)
        seconds += time.perf_counter() - begin
    peer.close()
    return count / seconds


def _get_beside_puts(
    directory: Path, source: random.Random, size: BlockSize, rate: float
) -> tuple[float, float]:
    """Blocks fetched a second beside PUTs of that rate, and the 99th percentile in seconds."""
    newest = [source.randbytes(size) for _ in range(256)]
    peer = _Peer(directory)
    options = put_options(()) + b"\xff"
    peer.exchange([format_frame(Code.PUT, b"p", options + one) for one in newest], Code.CREATED)
    names = [reference_of(one) for one in newest]
    get = [format_frame(Code.GET, b"g", get_options((), block_query(n), size)) for n in names]
    waiting = _put_frames(source, size, _BESIDE[size])
    is_over = threading.Event()

    def put() -> None:
        putting = _Peer(directory)
        begin = time.perf_counter()
        for sent in range(0, len(waiting), _WINDOW):
            putting.exchange(waiting[sent : sent + _WINDOW], Code.CREATED)
            is_over.wait(max(0.0, begin + sent / rate - time.perf_counter()))
        putting.close()
        is_over.set()

    thread = threading.Thread(target=put)
    thread.start()
    times = []
    begin = time.perf_counter()
    while not is_over.is_set():
        start = time.perf_counter()
        at = source.randrange(len(get) - 16)
        peer.exchange(get[at : at + 16], Code.CONTENT)
        times.append(time.perf_counter() - start)
    seconds = time.perf_counter() - begin
    thread.join()
    peer.close()
    return 16 * len(times) / seconds, statistics.quantiles(times, n=100)[98]


def _hits() -> list[Row]:
    rows = []
    for name, trace in _traces().items():
        for room in (1000, 4000, 12000):
            ours, lru = _hits_of_the_hand(trace, room), _hits_of_lru(trace, room)
            case = f"hits, {name}, room for {room:,}"
            rows.append(compare(case, [100 * ours], [100 * lru], "%", 0.97, 1.0, note="peer: LRU"))
    return rows


def _traces() -> dict[str, list[int]]:
    return {
        "Zipf 0.8": _zipf(0.8),
        "Zipf 1.0": _zipf(1.0),
        "scans": _scans(),
        "upgrades": _upgrades(),
    }


def _zipf(exponent: float, keys: int = 40_000) -> list[int]:
    source = random.Random(f"{exponent}")
    names = list(range(keys))
    source.shuffle(names)
    weights = [1 / (rank + 1) ** exponent for rank in range(keys)]
    return source.choices(names, weights=weights, k=_TRACE)


def _scans(every: int = 20_000, length: int = 8_000) -> list[int]:
    """Popular blocks, and now and then many that are read once."""
    popular = _zipf(0.9)
    trace, fresh = [], 10**9
    for start in range(0, _TRACE, every):
        trace += popular[start : start + every]
        trace += range(fresh, fresh + length)
        fresh += length
    return trace


def _upgrades(packages: int = 400, size: int = 60) -> list[int]:
    """Packages are fetched whole; now and then one has a new version, which shares most blocks."""
    source = random.Random(3)
    contents = [list(range(start, start + size)) for start in range(0, packages * size, size)]
    fresh = packages * size
    weights = [1 / (rank + 1) ** 0.8 for rank in range(packages)]
    trace: list[int] = []
    while len(trace) < _TRACE:
        for package in source.choices(range(packages), weights=weights, k=30):
            trace += contents[package]
        (package,) = source.choices(range(packages), weights=weights)
        for at in range(size):
            if source.random() < 0.3:
                contents[package][at] = fresh
                fresh += 1
    return trace


def _hits_of_lru(trace: Sequence[int], room: int) -> float:
    known: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for name in trace:
        if name in known:
            known.move_to_end(name)
            hits += 1
        else:
            known[name] = None
            if len(known) > room:
                known.popitem(last=False)
    return hits / len(trace)


def _hits_of_the_hand(trace: Sequence[int], room: int) -> float:
    """As the evictor does it, with blocks of one byte."""
    ids: dict[int, int] = {}
    rows: OrderedDict[int, int] = OrderedDict()
    reads = Ids()
    hits, fresh, batch = 0, 1, max(1, room // _BATCH_PART)
    for name in trace:
        if name in ids:
            reads.add([ids[name]])
            hits += 1
            continue
        if len(rows) >= room:
            # As many as can be passed, were nearly all of them read.
            first = [Candidate(at, 1) for at, _ in zip(rows, range(8 * batch), strict=False)]
            choice = choose(first, reads, batch, batch)
            for candidate in choice.gone:
                del ids[rows.pop(candidate.id)]
            for candidate in choice.again:
                moved = rows.pop(candidate.id)
                rows[fresh], ids[moved] = moved, fresh
                fresh += 1
            reads.discard(at for at, _ in choice.gone + choice.again)
        rows[fresh], ids[name] = name, fresh
        fresh += 1
    return hits / len(trace)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--blocks", type=int, help="blocks of 1 KiB in the store")
    arguments = parser.parse_args()
    print(heading())
    for row in run(arguments.rounds, arguments.blocks):
        print(format_row(row))


if __name__ == "__main__":
    main()

"""Many clients at once: whether each gets its share, and what the daemon's memory does.

Four processes of eight clients each, every client with a connection and 16 requests in flight, for
some seconds: GETs of blocks that are there and PUTs of blocks that are not, one for one; one of 16
is of 32 KiB, the others of 1 KiB. A request's latency is counted from when its client sent it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.files import _MemoryWatch
from benchmarks.report import Row, format_row, heading, single
from benchmarks.wire import kaplad
from eris import BlockSize, Reference, reference_of
from kapla.client import RemoteStore
from kapla.urls import parse_store_url

__all__ = ["run"]

_PROCESSES: Final = 4
_CLIENTS: Final = 8
_WINDOW: Final = 16
_SECONDS: Final = 5.0
_LARGE_EVERY: Final = 16
_PRESENT: Final = {BlockSize.SMALL: 4096, BlockSize.LARGE: 256}
_MEMORY_BAR: Final = 150.0
_NOISE: Final = random.Random(0).randbytes(int(BlockSize.LARGE))

_Named = tuple[Reference, BlockSize]


_Latencies = list[float]
"""What one client saw: seconds from each request to its answer."""


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds, each with a fresh store."""
    fairness, rates, middle, tail, worst, memory = [], [], [], [], [], []
    with ProcessPoolExecutor(
        _PROCESSES, mp_context=multiprocessing.get_context("spawn")
    ) as processes:
        for number in range(rounds):
            with (
                tempfile.TemporaryDirectory(prefix="kb-") as directory,
                kaplad(Path(directory)) as (url, _, process),
            ):
                watch = _MemoryWatch(process)
                clients = _one_round(processes, url, number)
                memory.append(watch.stop())
            counts = [len(client) for client in clients]
            latencies = sorted(seconds for client in clients for seconds in client)
            fairness.append(min(counts) / statistics.mean(counts))
            rates.append(sum(counts) / _SECONDS)
            middle.append(latencies[len(latencies) // 2] * 1e3)
            tail.append(latencies[len(latencies) * 99 // 100] * 1e3)
            worst.append(latencies[-1] * 1e3)
    name = f"{_PROCESSES * _CLIENTS} clients"
    note = f"the longest {statistics.median(worst):.0f} ms"
    return [
        single(f"{name}, slowest / mean", fairness, "of mean", 0.25),
        single(f"{name}, all together", rates, "blocks/s"),
        single(f"{name}, median latency", middle, "ms"),
        single(f"{name}, 99 % answered within", tail, "ms", note=note),
        single(f"{name}, daemon's RssAnon", [max(memory)], "MiB", _MEMORY_BAR, at_most=True),
    ]


def _one_round(processes: ProcessPoolExecutor, url: str, number: int) -> list[_Latencies]:
    present = asyncio.run(_prepare(url))
    # Late enough for all processes to be there: the first time, they start up in it.
    start = time.monotonic() + 3
    jobs = [
        processes.submit(_work, url, present, start, number * _PROCESSES + process)
        for process in range(_PROCESSES)
    ]
    return [client for job in jobs for client in job.result()]


async def _prepare(url: str) -> list[_Named]:
    """Put the blocks that are going to be fetched."""
    present: list[_Named] = []
    async with RemoteStore(parse_store_url(url)) as store:
        for size, count in _PRESENT.items():
            for number in range(count):
                block = _block(size, b"present", number)
                present.append((reference_of(block), size))
                await store.put(present[-1][0], block)
    return present


def _block(size: BlockSize, owner: bytes, number: int) -> bytes:
    """A block that nobody else has, for little work."""
    head = owner.ljust(24, b".") + number.to_bytes(8, "big")
    return head + _NOISE[: size - len(head)]


def _work(url: str, present: Sequence[_Named], start: float, seed: int) -> list[_Latencies]:
    """Eight clients in a process of their own."""
    return asyncio.run(_work_together(url, present, start, seed))


async def _work_together(
    url: str, present: Sequence[_Named], start: float, seed: int
) -> list[_Latencies]:
    by_size = {size: [name for name, found in present if found is size] for size in BlockSize}
    if time.monotonic() > start:
        raise RuntimeError("the processes took too long to start")
    clients = [
        _client(url, by_size, start, f"{seed}-{client}".encode()) for client in range(_CLIENTS)
    ]
    return await asyncio.gather(*clients)


async def _client(
    url: str, present: dict[BlockSize, list[Reference]], start: float, name: bytes
) -> _Latencies:
    source = random.Random(name)
    latencies: _Latencies = []
    sent = 0
    async with RemoteStore(parse_store_url(url), window=_WINDOW) as store:
        await store.connect()
        await asyncio.sleep(start - time.monotonic())
        end = start + _SECONDS

        async def keep_asking() -> None:
            nonlocal sent
            while time.monotonic() < end:
                sent += 1
                size = BlockSize.LARGE if sent // 2 % _LARGE_EVERY == 0 else BlockSize.SMALL
                if sent % 2:
                    reference = source.choice(present[size])
                    begin = time.monotonic()
                    await store.get(reference, size)
                else:
                    block = _block(size, name, sent)
                    reference = reference_of(block)
                    begin = time.monotonic()
                    await store.put(reference, block)
                now = time.monotonic()
                if now < end:
                    latencies.append(now - begin)

        await asyncio.gather(*(keep_asking() for _ in range(_WINDOW)))
    return latencies


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(format_row(row))


if __name__ == "__main__":
    main()

"""Files of trees by path and offset: `TreeReader` against reading whole contents, and bare GETs.

A tree of a file of 256 MiB and a thousand small ones, of both kinds, in a kaplad on a Unix socket.
Each round has readers of its own, so that nothing is kept from the one before.

`in order` reads the first 16 MiB, 256 KiB at a time, against `get_content` of as much. `at random`
reads 4 KiB from anywhere, by one reader, each read after the other, and by 16 at once. The bare
client gets the blocks that these reads got, those of one read at once, and looks at none of them:
it has the same number of round trips, and does nothing else.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import kaplad
from eris import BlockSize, ReadCapability, Reference, get_content, put_content
from eris_fs import TreeReader, load_tree, put_packed_tree, put_tree, read_files
from kapla.client import RemoteStore
from kapla.urls import parse_store_url

__all__ = ["run"]

_MIB: Final = 1024 * 1024
_LARGE: Final = 256 * _MIB
_IN_ORDER: Final = 16 * _MIB
_TURNS_IN_ORDER: Final = 4
_STEP: Final = 256 * 1024
_READS: Final = 1600
_TURN: Final = 160
_READ: Final = 4096
_READERS: Final = 16
_SMALL_FILES: Final = 1000

_Get = tuple[Reference, BlockSize]


class _Recording:
    """Notes what each read gets."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store
        self.gets: list[_Get] = []

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        self.gets.append((reference, block_size))
        return self._store.get(reference, block_size)


def _make_tree(root: Path) -> None:
    source = random.Random(1)
    small = root / "small"
    small.mkdir(parents=True)
    for number in range(_SMALL_FILES):
        (small / f"file-{number:04}").write_bytes(source.randbytes(source.randrange(6000)))
    with (root / "large").open("wb") as file:
        for _ in range(_LARGE // _MIB):
            file.write(source.randbytes(_MIB))


def _offsets(seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(_LARGE - _READ) for _ in range(_READS)]


async def _in_order(reader: TreeReader) -> float:
    begin = time.perf_counter()
    for at in range(0, _IN_ORDER, _STEP):
        if len(await reader.read("large", at, _STEP)) != _STEP:
            raise RuntimeError("it ended early")
    return time.perf_counter() - begin


async def _whole(store: RemoteStore, capability: ReadCapability) -> float:
    begin = time.perf_counter()
    if len(await get_content(store, capability)) != _IN_ORDER:
        raise RuntimeError("it is not what was put")
    return time.perf_counter() - begin


async def _at_random(reader: TreeReader, offsets: Sequence[int], readers: int) -> float:
    coming = iter(offsets)

    async def go_on() -> None:
        for at in coming:
            if len(await reader.read("large", at, _READ)) != _READ:
                raise RuntimeError("it ended early")

    begin = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(readers)))
    return time.perf_counter() - begin


async def _record(
    store: RemoteStore, capability: ReadCapability, offsets: Sequence[int]
) -> list[list[_Get]]:
    """What each read gets, once the inner nodes are known."""
    recording = _Recording(store)
    rounds = []
    async with await TreeReader.open(recording, capability) as reader:
        await _visit(reader)
        for at in offsets:
            recording.gets = []
            await reader.read("large", at, _READ)
            rounds.append(recording.gets)
    return rounds


async def _visit(reader: TreeReader) -> None:
    """Have the inner nodes known."""
    await asyncio.gather(*(reader.read("large", at, 1) for at in range(0, _LARGE, 8 * _MIB)))


async def _bare(store: RemoteStore, rounds: Sequence[Sequence[_Get]], readers: int) -> float:
    coming = iter(rounds)

    async def go_on() -> None:
        for gets in coming:
            for answer in [store.get(reference, size) for reference, size in gets]:
                await answer

    begin = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(readers)))
    return time.perf_counter() - begin


async def _small_files(reader: TreeReader) -> float:
    names = [entry.name for entry in reader.entries("small")]
    begin = time.perf_counter()
    for name in names:
        await reader.read(("small", name), 0, _MIB)
    return len(names) / (time.perf_counter() - begin)


async def _all_small_files(store: RemoteStore, capability: ReadCapability) -> float:
    tree = await load_tree(store, capability)
    paths = sorted(path for path in tree if path[0] == "small")
    begin = time.perf_counter()
    async for _ in read_files(store, tree, paths):
        pass
    return len(paths) / (time.perf_counter() - begin)


async def _round(
    store: RemoteStore, trees: dict[str, ReadCapability], begin: ReadCapability, seed: int
) -> dict[tuple[str, str], float]:
    """Everything once, and what is compared in turns, so that a busy machine slows both.

    Each reader begins with nothing, but for the inner nodes of what is read at random.
    """
    rates = {}
    for kind, capability in trees.items():
        rates[kind, "all small"] = await _all_small_files(store, capability)
        async with await TreeReader.open(store, capability) as reader:
            rates[kind, "small"] = await _small_files(reader)
        whole = in_order = 0.0
        for _ in range(_TURNS_IN_ORDER):
            whole += await _whole(store, begin)
            async with await TreeReader.open(store, capability) as reader:
                in_order += await _in_order(reader)
        size = _TURNS_IN_ORDER * _IN_ORDER / _MIB
        rates[kind, "whole"], rates[kind, "in order"] = size / whole, size / in_order
        rates |= await _round_at_random(store, kind, capability, _offsets(seed))
    return rates


async def _round_at_random(
    store: RemoteStore, kind: str, capability: ReadCapability, offsets: Sequence[int]
) -> dict[tuple[str, str], float]:
    rounds = await _record(store, capability, offsets)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    async with (
        await TreeReader.open(store, capability) as alone,
        await TreeReader.open(store, capability) as shared,
    ):
        for reader in (alone, shared):
            await _visit(reader)
        for first in range(0, _READS, _TURN):
            turn = slice(first, first + _TURN)
            for readers, reader in ((1, alone), (_READERS, shared)):
                bare = await _bare(store, rounds[turn], readers)
                seconds[kind, f"bare {readers}"] += bare
                ours = await _at_random(reader, offsets[turn], readers)
                seconds[kind, f"random {readers}"] += ours
    return {case: _READS / spent for case, spent in seconds.items()}


async def _measure(url: str, tree: Path, rounds: int) -> dict[tuple[str, str], list[float]]:
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with RemoteStore(parse_store_url(url)) as store:
        trees = {
            "plain": await put_tree(store, tree),
            "packed": await put_packed_tree(store, tree, level=1),
        }
        with (tree / "large").open("rb") as file:
            begin = await put_content(store, file.read(_IN_ORDER))
        for number in range(rounds + 1):
            found = await _round(store, trees, begin, number)
            if number:  # the first round is for caches
                for case, rate in found.items():
                    rates[case].append(rate)
    return rates


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        directory = Path(name)
        _make_tree(directory / "tree")
        with kaplad(directory) as (url, _, _):
            rates = asyncio.run(_measure(url, directory / "tree", rounds))
    rows = []
    for kind in ("plain", "packed"):
        whole, in_order = rates[kind, "whole"], rates[kind, "in order"]
        small = rates[kind, "all small"]
        one, many = rates[kind, "random 1"], rates[kind, f"random {_READERS}"]
        bar, more, least, goal = (0.9, 1.4, 0.5, 0.8) if kind == "plain" else (None,) * 4
        rows += [
            compare(f"{kind}, in order / get_content", in_order, whole, "MiB/s", bar),
            compare(f"{kind}, at random, {_READERS} readers / one", many, one, "reads/s", more),
        ]
        for readers, ours in ((1, one), (_READERS, many)):
            bare = rates[kind, f"bare {readers}"]
            case = f"{kind}, at random, {readers} / bare GETs"
            # Many at once wait for the processor, which a client that looks at nothing leaves free.
            judged = (least, goal) if readers == 1 else (None, None)
            rows.append(compare(case, ours, bare, "reads/s", *judged))
        case = f"{kind}, small files one by one / all at once"
        rows.append(compare(case, rates[kind, "small"], small, "files/s"))
    return rows


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

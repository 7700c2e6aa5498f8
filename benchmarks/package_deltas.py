"""Upgrades of real packages by deltas: their bytes, what it takes to make them, and to apply them.

Bytes are those of the delta's distinct blocks, against one solid zstd -19 archive of the newer
release. A *rebuild* is the newer release twice, with 200 strings of 32 letters as they are in names
of store items at the same places of both, in large and in small files, none of them equal.

The baseline of making is the packed tree of the same release at the same level; of applying, that
tree out of the same daemon, both read once before.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare
from benchmarks.scratch import kept_directory
from benchmarks.wire import kaplad
from eris import BlockReader, BlockWriter, MemoryStore, ReadCapability
from eris.threads import in_thread
from eris_fs import get_tree, load_tree, put_packed_tree
from eris_fs.delta.apply import open_delta
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.encode import put_delta
from eris_fs.tree import get_files
from kapla.client import open_store

__all__ = ["PackagePair", "run"]

_LEVEL: Final = 19
_REBUILT: Final = ("git", "numpy", "django", "libpython3.11-stdlib")
_STRINGS: Final = 200
_LETTERS: Final = b"0123456789abcdfghijklmnpqrsvwxyz"
_STRING: Final = 32


@dataclass(frozen=True, slots=True)
class PackagePair:
    """Two releases of a package, unpacked, and the bytes of the newer one as one archive."""

    name: str
    old: Path
    new: Path
    solid: int


@dataclass(slots=True)
class _Spent:
    """Seconds of wall and of processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def more(self) -> Iterator[None]:
        """Count what is done meanwhile."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def run(pairs: Iterable[PackagePair], rounds: int) -> Iterator[Row]:
    """Measure all: bytes once, applying over so many rounds."""
    pairs = list(pairs)
    yield from _bytes_rows(pairs)
    yield from _rebuild_rows(pairs)
    yield _apply_row(pairs, rounds)


def _bytes_rows(pairs: list[PackagePair]) -> Iterator[Row]:
    delta, packed = _Spent(), _Spent()
    ratios = []
    for pair in pairs:
        size = _delta_bytes(pair.old, pair.new, delta)
        with packed.more():
            asyncio.run(put_packed_tree(MemoryStore(), pair.new, level=_LEVEL))
        ratios.append(size / pair.solid)
        yield compare(f"{pair.name}: delta", [size / 1e3], [pair.solid / 1e3], "kB")
    yield _mean("delta / zstd -19", ratios, 0.12, 0.07)
    for what, ours, theirs in (
        ("time", delta.wall, packed.wall),
        ("processor time", delta.cpu, packed.cpu),
    ):
        text = f"making all deltas / all packed trees, level {_LEVEL}, {what}"
        yield compare(text, [ours], [theirs], "s", 1.0, 0.3, at_most=True)


def _rebuild_rows(pairs: list[PackagePair]) -> Iterator[Row]:
    ratios = []
    for pair in pairs:
        if pair.name in _REBUILT:
            scratch = kept_directory()
            _rebuild(pair.new, scratch)
            size = _delta_bytes(scratch / "old", scratch / "new", _Spent())
            ratios.append(size / pair.solid)
            sides = [size / 1e3], [pair.solid / 1e3]
            yield compare(f"{pair.name}: delta of a rebuild", *sides, "kB")
    if ratios:
        yield _mean("delta of a rebuild / zstd -19", ratios, 0.01, 0.003)


def _mean(what: str, ratios: list[float], bar: float, goal: float) -> Row:
    text = f"{what}, geometric mean of {len(ratios)}"
    return compare(text, [statistics.geometric_mean(ratios)], [1.0], "", bar, goal, at_most=True)


def _delta_bytes(old: Path, new: Path, spent: _Spent) -> int:
    with spent.more(), DirectoryFiles(old) as base, DirectoryFiles(new) as tree:
        return asyncio.run(put_delta(MemoryStore(), base, tree, level=_LEVEL)).block_bytes


def _rebuild(tree: Path, scratch: Path) -> None:
    """Make `old` and `new` in `scratch`: the tree, with other strings at the same places."""
    chance = random.Random(tree.name)
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    files = [path for path in files if path.stat().st_size > _STRING]
    largest = sorted(files, key=lambda path: -path.stat().st_size)[:20]
    places = []
    for number in range(_STRINGS):
        path = chance.choice(largest if number % 2 else files)
        start = chance.randrange(path.stat().st_size - _STRING)
        places.append((path.relative_to(tree), start))
    for name in ("old", "new"):
        shutil.copytree(tree, scratch / name, symlinks=True)
        for path, start in places:
            where = scratch / name / path
            mode = where.stat().st_mode
            os.chmod(where, mode | 0o600)
            with where.open("r+b") as file:
                file.seek(start)
                file.write(bytes(chance.choices(_LETTERS, k=_STRING)))
            os.chmod(where, mode)


# --- applying ---------------------------------------------------------------------------------


def _apply_row(pairs: list[PackagePair], rounds: int) -> Row:
    ours, theirs = [], []
    here = kept_directory()
    with kaplad(here) as (url, _, _):
        put = asyncio.run(_put_all(url, pairs))
        for number in range(rounds + 1):
            took = asyncio.run(_apply_all(url, put, here / str(number), number % 2 == 0))
            # The first time nothing was read before.
            if number:
                ours.append(took["delta"])
                theirs.append(took["packed"])
    text = "applying all deltas / getting all packed trees"
    return compare(text, ours, theirs, "s", 1.2, 0.8, at_most=True, note="a daemon on this machine")


_Put = list[tuple[PackagePair, ReadCapability, ReadCapability]]


async def _put_all(url: str, pairs: list[PackagePair]) -> _Put:
    put: _Put = []
    async with open_store(url) as store:
        for pair in pairs:
            packed = await put_packed_tree(store, pair.new, level=_LEVEL)
            put.append((pair, await _put_delta(store, pair), packed))
    return put


async def _put_delta(store: BlockWriter, pair: PackagePair) -> ReadCapability:
    with DirectoryFiles(pair.old) as base, DirectoryFiles(pair.new) as tree:
        return (await put_delta(store, base, tree, level=_LEVEL)).capability


async def _apply_all(url: str, put: _Put, here: Path, delta_first: bool) -> dict[str, float]:
    """Make all trees in both ways; gives the seconds that each took."""
    seconds = {}
    for way in ("delta", "packed") if delta_first else ("packed", "delta"):
        target = here / way
        target.mkdir(parents=True)
        async with open_store(url) as store:
            os.sync()
            begin = time.perf_counter()
            for pair, delta, packed in put:
                if way == "delta":
                    await _apply(store, delta, pair.old, target / pair.name)
                else:
                    await get_tree(store, await load_tree(store, packed), target / pair.name)
            seconds[way] = time.perf_counter() - begin
    return seconds


async def _apply(store: BlockReader, delta: ReadCapability, old: Path, target: Path) -> None:
    """As whoever knows the NarHash: the listing is not compared."""
    base = await in_thread(DirectoryFiles, old)
    with base:
        async with (
            open_delta(store, delta, base) as found,
            aclosing(found.files(listing=False)) as files,
        ):
            await get_files(found.outline, files, target)

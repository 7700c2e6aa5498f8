"""`make bench-bytes`: how many bytes and blocks real packages take, packed and as ERIS-FS 1.

Pairs of neighbouring releases, wheels and Debian packages, are downloaded with pip and apt-get into
a cache ($KAPLA_BENCH_CACHE, else ~/.cache/kapla-bench) and unpacked there. What cannot be had is
left out with a word. The measure is one solid zstd -19 archive of the same tree, as an HTTP server
of substitutes would send it. Bytes are those of all distinct blocks, leaves, internal nodes and
index: `cold` of the newer release, `upgrade` those that the older one lacks.

Upgrades by deltas are measured beside these (`package_deltas.py`). At last each newer release is
fetched as a substitute over a slow link (`substitutes/packages.py`).

Rates are of whole commands, from their start to their end, on all newer releases as one tree, with
a daemon of its own each round; nothing is deleted before the end (see `trees.py` for why).
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import zstandard

import eris_fs
from benchmarks import package_deltas
from benchmarks.package_deltas import PackagePair
from benchmarks.report import Row, compare
from benchmarks.scratch import kept_directory
from benchmarks.substitutes import packages
from benchmarks.wire import kaplad
from eris.errors import BlockNotFound
from eris.model import BlockSize, Reference

__all__ = ["run"]

_WHEELS: Final = (
    ("django", "5.0.6", "5.0.7", "text, many files"),
    ("numpy", "2.1.0", "2.1.1", "binaries"),
    ("botocore", "1.29.0", "1.29.1", "large texts"),
    ("sympy", "1.13.0", "1.13.1", "text"),
    ("cryptography", "43.0.0", "43.0.1", "one large binary, built anew"),
    ("tzdata", "2025.1", "2025.2", "many tiny files"),
)
_DEBIAN: Final = (
    ("perl-modules-5.36", "text, many files"),
    ("git", "programs that share a library, built anew"),
    ("libpython3.11-stdlib", "text and binaries"),
)
_PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_FAST: Final = 1
_SMALLEST: Final = 19
"""As the publisher packs; the default of `kapla encode` takes some more bytes."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two releases of a package, unpacked."""

    name: str
    old: Path
    new: Path
    note: str


# --- packages ---------------------------------------------------------------------------------


def _cache() -> Path:
    named = os.environ.get("KAPLA_BENCH_CACHE")
    path = Path(named) if named else Path.home() / ".cache" / "kapla-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _pairs(cache: Path) -> Iterator[_Pair]:
    for name, old, new, note in _WHEELS:
        yield from _pair(partial(_wheel, cache), name, (old, new), note)
    for name, note in _DEBIAN:
        versions = _debian_versions(name)
        if len(versions) < 2:
            print(f"{name} is left out: apt-cache knows no two versions of it")
            continue
        yield from _pair(partial(_debian, cache), name, (versions[-2], versions[-1]), note)


def _pair(
    unpack: Callable[[str, str], Path], name: str, versions: tuple[str, str], note: str
) -> Iterator[_Pair]:
    try:
        old, new = (unpack(name, version) for version in versions)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{name} is left out: it cannot be downloaded or unpacked ({error})")
        return
    yield _Pair(name, old, new, f"{' → '.join(versions)}; {note}")


def _wheel(cache: Path, name: str, version: str) -> Path:
    def fetch(into: Path) -> None:
        platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--dest", str(into), "--python-version", "3.11", *platforms]
        command += ["--only-binary", ":all:"]
        subprocess.run([*command, f"{name}=={version}"], check=True, stderr=subprocess.DEVNULL)

    def unpack(archive: Path, into: Path) -> None:
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(into)

    return _unpacked(cache, f"{name}-{version}", fetch, unpack)


def _debian(cache: Path, name: str, version: str) -> Path:
    def fetch(into: Path) -> None:
        command = ["apt-get", "download", "-qq", f"{name}={version}"]
        subprocess.run(command, cwd=into, check=True, stderr=subprocess.DEVNULL)

    def unpack(archive: Path, into: Path) -> None:
        subprocess.run(["dpkg-deb", "-x", archive, into], check=True)

    return _unpacked(cache, f"{name}_{version.replace(':', '_')}", fetch, unpack)


def _debian_versions(name: str) -> list[str]:
    """The versions that apt-get could download, oldest first."""
    if shutil.which("apt-cache") is None:
        return []
    command = ["apt-cache", "madison", name]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = list(dict.fromkeys(line.split("|")[1].strip() for line in said.splitlines()))
    # The order of a package's versions is dpkg's own; two are enough to compare.
    for place in range(len(found) - 1):
        older = ["dpkg", "--compare-versions", found[place], "lt", found[place + 1]]
        if subprocess.run(older, check=False).returncode != 0:
            found[place], found[place + 1] = found[place + 1], found[place]
    return found


def _unpacked(
    cache: Path,
    name: str,
    fetch: Callable[[Path], None],
    unpack: Callable[[Path, Path], None],
) -> Path:
    """Give the directory of a release, downloading it if it is not there whole."""
    target = cache / "unpacked" / name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            download, tree = Path(scratch, "download"), Path(scratch, "tree")
            download.mkdir()
            fetch(download)
            (archive,) = download.iterdir()
            unpack(archive, tree)
            tree.rename(target)
    return target


# --- bytes ------------------------------------------------------------------------------------


class _Noting:
    """A store that keeps nothing but what blocks there were."""

    def __init__(self) -> None:
        self.sizes: dict[Reference, int] = {}

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        raise BlockNotFound(reference)

    async def put(self, reference: Reference, block: bytes) -> None:
        self.sizes[reference] = len(block)


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a pair of releases takes in one format."""

    cold: int
    upgrade: int
    blocks: int


def _cost(pair: _Pair, *, packed: bool) -> _Cost:
    async def blocks_of(root: Path) -> dict[Reference, int]:
        store = _Noting()
        if packed:
            await eris_fs.put_packed_tree(store, root, level=_SMALLEST)
        else:
            await eris_fs.put_tree(store, root)
        return store.sizes

    old, new = asyncio.run(blocks_of(pair.old)), asyncio.run(blocks_of(pair.new))
    upgrade = sum(size for name, size in new.items() if name not in old)
    return _Cost(sum(new.values()), upgrade, len(new))


def _solid(root: Path) -> int:
    """The size of the tree as one zstd -19 archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(root, arcname=".")
    return len(zstandard.ZstdCompressor(level=19).compress(archive.getbuffer()))


def _bytes_rows(pairs: list[_Pair], solids: Mapping[str, int]) -> Iterator[Row]:
    ratios: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        solid = solids[pair.name]
        ours, theirs = _cost(pair, packed=True), _cost(pair, packed=False)
        for case, mine, other, unit, plain in (
            ("cold", ours.cold, solid, "MB", theirs.cold),
            ("upgrade", ours.upgrade, solid, "MB", theirs.upgrade),
            ("blocks", ours.blocks, theirs.blocks, "blocks", None),
        ):
            scale = 1e6 if unit == "MB" else 1
            note = pair.note if plain is None else f"ERIS-FS 1: {plain / solid:.2f}"
            sides = [mine / scale], [other / scale]
            yield compare(f"{pair.name}: {case}", *sides, unit, note=note)
            ratios[case].append(mine / other)
    for case, peer, bar, goal in (
        ("cold", "zstd -19", 1.5, 1.2),
        ("upgrade", "zstd -19", 0.5, 0.3),
        ("blocks", "ERIS-FS 1", 0.6, 0.3),
    ):
        if ratios[case]:
            mean = statistics.geometric_mean(ratios[case])
            text = f"{case} / {peer}, geometric mean of {len(pairs)}"
            yield compare(text, [mean], [1.0], "", bar, goal, at_most=True)


# --- rates ------------------------------------------------------------------------------------


def _timed(command: list[str], url: str | None = None) -> tuple[float, str]:
    os.sync()
    environment = os.environ if url is None else os.environ | {"ERIS_STORE_URL": url}
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return time.perf_counter() - begin, done.stdout.strip()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _rate_rows(pairs: list[_Pair], rounds: int) -> list[Row]:
    program = str(Path(sys.executable).with_name("kapla"))
    seconds: dict[str, list[float]] = defaultdict(list)
    scratch = kept_directory()
    tree = scratch / "tree"
    for pair in pairs:
        shutil.copytree(pair.new, tree / pair.name, symlinks=True)
    size = sum(path.stat().st_size for path in tree.rglob("*") if _is_file(path))
    for number in range(rounds):
        here = scratch / str(number)
        here.mkdir()
        with kaplad(here) as (url, _, _):
            archive = f"tar -cf - -C {scratch} tree | zstd -q -3 -o {here}/archive"
            seconds["tar"].append(_timed(["sh", "-c", archive])[0])
            encode = [program, "encode", "--no-cache", str(tree)]
            fast = [*encode, "--packed", "--level", str(_FAST)]
            took, _ = _timed(fast, url)
            seconds["encode"].append(took)
            _, packed = _timed([*encode, "--packed", "--level", str(_SMALLEST)], url)
            _, standard = _timed(encode, url)
            formats = [("standard", standard), ("packed", packed)]
            for name, urn in formats if number % 2 else formats[::-1]:
                # Warm: what has been read once.
                _timed([program, "verify", urn], url)
                took, _ = _timed([program, "decode", urn, str(here / name)], url)
                seconds[name].append(took)
    note = f"{size / 1e6:.0f} MB, whole commands"

    def rates(name: str) -> list[float]:
        return [size / 1e6 / took for took in seconds[name]]

    return [
        compare(
            "decode packed / ERIS-FS 1",
            rates("packed"),
            rates("standard"),
            "MB/s",
            1.5,
            3,
            note=note,
        ),
        compare(
            f"encode --level {_FAST} / tar | zstd -3",
            rates("encode"),
            rates("tar"),
            "MB/s",
            0.5,
            1,
            note=note,
        ),
    ]


def run(rounds: int) -> list[Row]:
    """Measure all cases; bytes once, rates over this many rounds."""
    pairs = list(_pairs(_cache()))
    if not pairs:
        return []
    solids = {pair.name: _solid(pair.new) for pair in pairs}
    rows = list(_bytes_rows(pairs, solids))
    upgrades = [PackagePair(pair.name, pair.old, pair.new, solids[pair.name]) for pair in pairs]
    rows += package_deltas.run(upgrades, rounds)
    named = [(pair.name, pair.old, pair.new) for pair in pairs]
    return [*rows, *_rate_rows(pairs, rounds), *packages.run(named, rounds)]

"""A tree as people have it into a store, again, and out of it, beside borg and restic as they are.

3,645 files of together 120 MB: sources, documents and binaries, of which about half compresses.
Each program runs with its own defaults, whole commands from start to end, into a store of its own
that is new in every round: restic compresses (zstd, automatic) and encrypts, borg compresses (lz4)
and encrypts (repokey-blake2), kapla encrypts, and with --packed compresses too (zstd). All stores,
and what is restored, are in one file system. Making the store, or starting the daemon, is not
counted.

Beside it a single file of 1 GiB, encoded and encoded again, and the system calls that decoding one
more small file takes.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading, single
from benchmarks.scratch import kept_directory
from benchmarks.trees import (
    PEERS,
    Commands,
    Measurement,
    fingerprint,
    kapla_commands,
    versions_of_peers,
)
from benchmarks.wire import kaplad

__all__ = ["run"]

_FILES: Final = 3645
_SIZE: Final = 120_000_000
_PER_DIRECTORY: Final = 12
_SMALLEST, _LARGEST = 60, 3_000_000
_WORDS: Final = 4000

_FILE: Final = 1 << 30
_MIB: Final = 1 << 20
_AGAIN_BAR, _AGAIN_GOAL = 0.25, 0.15

_COUNTED: Final = 1000
_CALLS_BAR, _CALLS_GOAL = 6.0, 4.0

_WAYS: Final = ("encode", "again", "decode")


@contextmanager
def _borg(here: Path) -> Iterator[Commands]:
    store = str(here / "store")
    yield Commands(
        encode=lambda name: ["borg", "create", f"{store}::{name}", "tree"],
        decode=lambda name: ["borg", "extract", f"{store}::{name}"],
        environment={"BORG_PASSPHRASE": "benchmark", "BORG_BASE_DIR": str(here / "base")},
        prepare=["borg", "init", "--encryption", "repokey-blake2", store],
    )


@contextmanager
def _restic(here: Path) -> Iterator[Commands]:
    (here / "password").write_text("benchmark\n")
    yield Commands(
        encode=lambda name: ["restic", "backup", "--tag", name, "tree"],
        decode=lambda name: ["restic", "restore", "latest", "--tag", name, "--target", "."],
        environment={
            "RESTIC_REPOSITORY": str(here / "store"),
            "RESTIC_PASSWORD_FILE": str(here / "password"),
            "RESTIC_CACHE_DIR": str(here / "cache"),
        },
        prepare=["restic", "init"],
    )


_PACKED: Final = "kapla --packed"
_PROGRAMS: Final[dict[str, Callable[[Path], AbstractContextManager[Commands]]]] = {
    "kapla": kapla_commands,
    _PACKED: lambda here: kapla_commands(here, "--packed"),
    "borg": _borg,
    "restic": _restic,
}

_Seconds = dict[tuple[str, str], list[float]]
"""By program and way, one figure a round."""


def _make_tree(root: Path) -> None:
    """Make the tree: sizes as those of sources and documents, the larger ones fewer."""
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz_", k=7)) for _ in range(_WORDS)]
    sizes = [min(_LARGEST, int(source.lognormvariate(8.6, 1.7)) + _SMALLEST) for _ in range(_FILES)]
    scale = _SIZE / sum(sizes)
    for number, size in enumerate(sizes):
        directory = root / f"{number // (_PER_DIRECTORY * 20)}" / f"{number // _PER_DIRECTORY}"
        directory.mkdir(parents=True, exist_ok=True)
        length = round(size * scale)
        if number % 2:
            content = source.randbytes(length)
        else:
            content = " ".join(source.choices(words, k=length // 8 + 1)).encode()[:length]
        (directory / f"{number}").write_bytes(content)


def _against_peers(
    us: str, versions: dict[str, str], seconds: _Seconds, way: str, note: str
) -> Iterator[Row]:
    ours = seconds[us, way]
    case = f"{way} {_FILES:,} files{', packed' if us == _PACKED else ''}"
    peers = [seconds[name, way] for name in versions]
    for name, version in versions.items():
        peer = seconds[name, way]
        yield compare(f"{case} / {name}", ours, peer, "s", at_most=True, note=f"{version}; {note}")
    if len(peers) > 1:
        slower = [max(figures) for figures in zip(*peers, strict=True)]
        faster = [min(figures) for figures in zip(*peers, strict=True)]
        yield compare(f"{case} / the slower of both", ours, slower, "s", 1.0, at_most=True)
        yield compare(f"{case} / the faster of both", ours, faster, "s", goal=1.0, at_most=True)


def _trees(rounds: int) -> Iterator[Row]:
    versions = versions_of_peers({name: PEERS[name] for name in ("borg", "restic")})
    programs = ["kapla", _PACKED, *versions]
    seconds: _Seconds = defaultdict(list)
    scratch = kept_directory()
    tree = scratch / "tree"
    _make_tree(tree)
    fingerprint(tree)
    for number in range(rounds):
        # Each is first in its turn.
        turn = number % len(programs)
        for name in [*programs[turn:], *programs[:turn]]:
            here = scratch / f"{number}-{name.replace(' ', '')}"
            here.mkdir()
            with _PROGRAMS[name](here) as commands:
                measured = Measurement(commands, tree, here)
                seconds[name, "encode"].append(measured.encode("first"))
                seconds[name, "again"].append(measured.encode("second"))
                seconds[name, "decode"].append(measured.decode("second"))
    for us, way in product(("kapla", _PACKED), _WAYS):
        yield from _against_peers(us, versions, seconds, way, f"{_SIZE / 1e6:.0f} MB")


def _large_file(rounds: int) -> Iterator[Row]:
    """A new file in each round, first and again."""
    program = str(Path(sys.executable).with_name("kapla"))
    first: list[float] = []
    again: list[float] = []
    for _ in range(rounds):
        here = kept_directory()
        with (here / "file").open("wb") as file:
            for _ in range(_FILE // _MIB):
                file.write(os.urandom(_MIB))
        with kaplad(here) as (url, _, _):
            environment = {**os.environ, "ERIS_STORE_URL": url, "XDG_CACHE_HOME": str(here / "c")}
            for figures in (first, again):
                os.sync()
                begin = time.perf_counter()
                subprocess.run(
                    [program, "encode", str(here / "file")],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                figures.append(time.perf_counter() - begin)
        shutil.rmtree(here)
        here.mkdir()
    case = "1 GiB file again, unchanged / first"
    yield compare(case, again, first, "s", _AGAIN_BAR, _AGAIN_GOAL, at_most=True)


def _system_calls() -> Iterator[Row]:
    """What decoding a thousand more small files adds."""
    if shutil.which("strace") is None:
        print("strace is missing: the system calls of decode are not counted")
        return
    program = str(Path(sys.executable).with_name("kapla"))
    here = kept_directory()
    counts = []
    with kaplad(here) as (url, _, _):
        environment = {**os.environ, "ERIS_STORE_URL": url, "XDG_CACHE_HOME": str(here / "c")}
        for count in (_COUNTED, 2 * _COUNTED):
            tree = here / f"{count}"
            tree.mkdir()
            for number in range(count):
                (tree / f"{number}").write_bytes(os.urandom(500))
            urn, found = here / f"{count}.urn", here / f"{count}.calls"
            encode = [program, "encode", "--out", str(urn), str(tree)]
            subprocess.run(encode, env=environment, check=True)
            decode = [program, "decode", f"@{urn}", str(here / f"{count}-out")]
            traced = ["strace", "-f", "-c", "-o", str(found), *decode]
            subprocess.run(traced, env=environment, check=True)
            (total,) = [line for line in found.read_text().splitlines() if line.endswith(" total")]
            counts.append(int(total.split()[3]))
    calls = [(counts[1] - counts[0]) / _COUNTED]
    case = "decode: system calls for a small file"
    yield single(case, calls, "calls", _CALLS_BAR, _CALLS_GOAL, at_most=True)


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    return [*_trees(rounds), *_large_file(rounds), *_system_calls()]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(format_row(row))


if __name__ == "__main__":
    main()

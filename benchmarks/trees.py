"""A tree of 20,000 small files into a store and out of it, beside borg, casync and restic.

Every program is timed as a whole command, from its start to its end, on the same generated tree in
the page cache, into a store of its own that is new in every round; making the store, or starting
the daemon, is not counted. Before each command what others wrote is flushed, so that nobody waits
for another's disk writes, and what a command restored is compared with the tree. None compresses,
but for casync, which cannot be told not to, and packed trees, of which it is the point.

Nothing is deleted before the end, some 1.5 GB a round: ext4 does not give the inodes of deleted
files away again for a minute or more, and looks at each of them whenever it creates a file, so that
deleting one restored tree would make the next one ten times as slow to create.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from benchmarks.scratch import kept_directory
from benchmarks.wire import kaplad

__all__ = [
    "PEERS",
    "Commands",
    "Measurement",
    "fingerprint",
    "kapla_commands",
    "run",
    "versions_of_peers",
]

_FILES: Final = 20_000
_PER_DIRECTORY: Final = 100
_DIRECTORIES: Final = 20
"""In each directory at the top."""

_LARGEST: Final = 64 * 1024
_CHANGED: Final = _FILES // 100
_SECOND_BAR: Final = 0.25

PEERS: Final = {
    "borg": ["borg", "--version"],
    "casync": ["casync", "--version"],
    "restic": ["restic", "version"],
}
"""How each says its version."""

_KINDS: Final = {"kapla": "", "kapla-packed": "packed, "}
"""Our own two kinds of trees, and what rows of each begin with."""

_SECOND_ENCODES: Final = (*_KINDS, "borg", "restic")
"""Who looks at what it encoded before."""


@dataclass(frozen=True, slots=True)
class Commands:
    """How one program is run. `decode` makes `tree` in the directory where it is run."""

    encode: Callable[[str], list[str]]
    """Run beside the tree, which is named `tree` there; the argument is new every time."""
    decode: Callable[[str], list[str]]
    """With the argument that `encode` had."""
    environment: dict[str, str] = field(default_factory=dict)
    prepare: list[str] | None = None


@contextmanager
def kapla_commands(here: Path, *options: str) -> Iterator[Commands]:
    """`kapla`, with a daemon of its own and these options of encode."""
    program = str(Path(sys.executable).with_name("kapla"))
    with kaplad(here) as (url, _, _):
        yield Commands(
            encode=lambda name: [program, "encode", *options, "tree"],
            decode=lambda name: [program, "decode", f"@{here / name}", "tree"],
            environment={
                "ERIS_STORE_URL": url,
                "XDG_CACHE_HOME": str(here / "cache"),
                # As installed: with its bytecode, which the first start writes.
                "PYTHONDONTWRITEBYTECODE": "",
            },
            prepare=[program, "encode", "--help"],
        )


@contextmanager
def _borg(here: Path) -> Iterator[Commands]:
    store = str(here / "store")
    yield Commands(
        encode=lambda name: ["borg", "create", "--compression", "none", f"{store}::{name}", "tree"],
        decode=lambda name: ["borg", "extract", f"{store}::{name}"],
        environment={"BORG_PASSPHRASE": "benchmark", "BORG_BASE_DIR": str(here / "base")},
        prepare=["borg", "init", "--encryption", "repokey-blake2", store],
    )


@contextmanager
def _casync(here: Path) -> Iterator[Commands]:
    store = f"--store={here / 'store.castr'}"
    yield Commands(
        encode=lambda name: ["casync", "make", store, str(here / f"{name}.caidx"), "tree"],
        decode=lambda name: ["casync", "extract", store, str(here / f"{name}.caidx"), "tree"],
    )


@contextmanager
def _restic(here: Path) -> Iterator[Commands]:
    (here / "password").write_text("benchmark\n")
    yield Commands(
        encode=lambda name: ["restic", "backup", "--compression", "off", "--tag", name, "tree"],
        decode=lambda name: ["restic", "restore", "latest", "--tag", name, "--target", "."],
        environment={
            "RESTIC_REPOSITORY": str(here / "store"),
            "RESTIC_PASSWORD_FILE": str(here / "password"),
            "RESTIC_CACHE_DIR": str(here / "cache"),
        },
        prepare=["restic", "init"],
    )


_PROGRAMS: Final[dict[str, Callable[[Path], AbstractContextManager[Commands]]]] = {
    "kapla": kapla_commands,
    "kapla-packed": lambda here: kapla_commands(here, "--packed", "--level", "1"),
    "borg": _borg,
    "casync": _casync,
    "restic": _restic,
}


def _make_tree(root: Path) -> list[Path]:
    """Make the tree; returns its files. Every order of magnitude has as many files as another."""
    source = random.Random(1)
    paths = []
    for number in range(_FILES):
        place = number // _PER_DIRECTORY
        directory = root / f"part-{place // _DIRECTORIES:02}" / f"set-{place % _DIRECTORIES:02}"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"file-{number:05}"
        size = round(math.exp(source.uniform(0, math.log(_LARGEST))))
        path.write_bytes(source.randbytes(size))
        paths.append(path)
    return paths


def _change(paths: list[Path], seed: str) -> None:
    """Give one file in a hundred, always the same ones, new content of the same length."""
    source = random.Random(seed)
    for path in random.Random(2).sample(paths, _CHANGED):
        path.write_bytes(source.randbytes(path.stat().st_size))


def fingerprint(root: Path) -> str:
    """One hash for the names and contents of all files; reading also warms the page cache."""
    state = hashlib.blake2b()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        state.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return state.hexdigest()


class Measurement:
    """One program in one round, with a store of its own in `here`."""

    def __init__(self, commands: Commands, tree: Path, here: Path) -> None:
        self._commands = commands
        self._tree = tree
        self._here = here
        if commands.prepare is not None:
            self._run(commands.prepare, here, "prepared")

    def encode(self, name: str) -> float:
        """Encode the tree, to be known by this name; returns seconds."""
        return self._run(self._commands.encode(name), self._tree.parent, name)

    def decode(self, name: str) -> float:
        """Decode it into a new directory, and check what came out; returns seconds."""
        out = self._here / "out"
        out.mkdir()
        command = self._commands.decode(name)
        seconds = self._run(command, out, "decoded")
        if fingerprint(out / "tree") != fingerprint(self._tree):
            raise RuntimeError(f"{command[0]} restored something else")
        return seconds

    def _run(self, command: list[str], directory: Path, name: str) -> float:
        """Run a command, and keep in a file of this name what it prints: from kapla, the URN."""
        environment = os.environ | self._commands.environment
        os.sync()
        with (self._here / name).open("wb") as output:
            begin = time.perf_counter()
            done = subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                check=False,
            )
            seconds = time.perf_counter() - begin
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} failed: {said}")
        return seconds


_Seconds = dict[tuple[str, str], list[float]]
"""By program and case, one figure a round."""


def versions_of_peers(peers: Mapping[str, list[str]]) -> dict[str, str]:
    """What the peers call themselves; a word for each that is missing."""
    versions = {}
    for name, command in peers.items():
        if shutil.which(name) is None:
            print(f"{name} is missing, and its cases are skipped: make bench-peers installs it")
            continue
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        versions[name] = " ".join(said.split()[:2])
    return versions


def _measure(name: str, tree: Path, paths: list[Path], here: Path, seconds: _Seconds) -> None:
    here.mkdir()
    with _PROGRAMS[name](here) as commands:
        measured = Measurement(commands, tree, here)
        seconds[name, "encode"].append(measured.encode("first"))
        seconds[name, "decode"].append(measured.decode("first"))
        if name in _SECOND_ENCODES:
            seconds[name, "unchanged"].append(measured.encode("second"))
            _change(paths, here.name)
            seconds[name, "changed"].append(measured.encode("third"))


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    versions = versions_of_peers(PEERS)
    programs = [*_KINDS, *versions]
    seconds: _Seconds = defaultdict(list)
    scratch = kept_directory()
    tree = scratch / "tree"
    paths = _make_tree(tree)
    size = sum(path.stat().st_size for path in paths)
    fingerprint(tree)
    for number in range(rounds):
        # Each is first in its turn.
        turn = number % len(programs)
        for name in [*programs[turn:], *programs[:turn]]:
            _measure(name, tree, paths, scratch / f"{number}-{name}", seconds)
    rows: list[Row] = []
    note = f"{size / 1e6:.0f} MB"
    for kind in _KINDS:
        rows += _against_peers(kind, versions, seconds, note)
    for kind in _KINDS:
        rows += _second_encodes([kind], seconds)
    rows += _second_encodes([name for name in versions if name in _SECOND_ENCODES], seconds)
    return rows


def _against_peers(
    kind: str, versions: dict[str, str], seconds: _Seconds, note: str
) -> Iterator[Row]:
    for way in ("encode", "decode"):
        ours = [_FILES / one for one in seconds[kind, way]]
        for name, version in versions.items():
            peer = [_FILES / one for one in seconds[name, way]]
            case = f"{_KINDS[kind]}{way} {_FILES:,} files / {name}"
            yield compare(case, ours, peer, "files/s", goal=1.0, note=f"{version}; {note}")


def _second_encodes(programs: list[str], seconds: _Seconds) -> Iterator[Row]:
    for kind, text in (("unchanged", "unchanged"), ("changed", "1 % changed")):
        for name in programs:
            second, first = seconds[name, kind], seconds[name, "encode"]
            case = f"second encode / first, {text}"
            if name in _KINDS:
                # Packing a tree for the first time is hardly slower than reading it: no bar.
                bar = None if _KINDS[name] else _SECOND_BAR
                yield compare(f"{_KINDS[name]}{case}", second, first, "s", bar, at_most=True)
            else:
                yield compare(f"{case}, {name}", second, first, "s", at_most=True)


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

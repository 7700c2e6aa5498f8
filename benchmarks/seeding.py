"""What `kapla seed` takes: disk, time to read, and leaves over TCP against a bare loop.

The index of a tree on disk ÷ its files, for Python's standard library, which has small files, and
for a tree of large ones; how fast they are read for it, in a second of one processor's time. Then
leaves of 32 KiB that a client gets over TCP from a daemon that stores none of them, by way of a
seed, ÷ a loop in one process that reads, encrypts and hashes the same leaves.

`python -m benchmarks.seeding [TREE…]` tells it of other trees, one by one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading, single
from benchmarks.wire import kaplad
from eris import BlockSize
from eris.base32 import format_base32_reference
from eris.crypto import encrypt_leaves
from guix_glue.local.archive import nar_hash
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.indexing import Indexer
from guix_glue.seed.trees import SeedTree
from kapla.coap.frame import Code, FrameReader, format_message

__all__ = ["run"]

_LEAVES: Final = 4096
_WINDOW: Final = 64
_PATH: Final = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]


def run(rounds: int) -> list[Row]:
    """Measure leaves over this many rounds, and each tree once."""
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        directory = Path(name)
        large = directory / "large"
        large.mkdir()
        for number in range(8):
            (large / str(number)).write_bytes(os.urandom(16 * 2**20))
        rows = []
        for what, tree in (
            ("the standard library", Path(sysconfig.get_path("stdlib"))),
            ("files of 16 MiB", large),
        ):
            found = _read_in(str(tree))
            share = 100 * found.index / found.size
            case = f"index of a seed / files, {what}"
            rows.append(single(case, [share], "%", 2, 0.5, at_most=True))
            rate = found.size / 1e6 / found.took_s
            rows.append(single(f"read for a seed, {what}", [rate], "MB/s"))
        return [*rows, *_leaves(directory, rounds)]


@dataclass(frozen=True)
class _ReadIn:
    """What became of a tree: bytes on disk, blocks, files and their bytes, processor time."""

    index: int
    blocks: int
    files: int
    size: int
    took_s: float


def _read_in(tree: str) -> _ReadIn:
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        index = SeedIndex(Path(name))
        indexer = Indexer(index)
        # As an item of a store, which nobody changes.
        item = SeedTree(tree, nar_hash(tree)[0])
        began = time.process_time()
        indexer.update([item])
        took_s = time.process_time() - began
        for reason in indexer.failures.values():
            raise RuntimeError(f"{tree}: {reason}")
        rows = [held.row for held in index.view.parts.values()]
        size, files = sum(row.size for row in rows), sum(row.files for row in rows)
        found = _ReadIn(index.view.size, index.view.blocks, files, size, took_s)
        index.close()
        return found


def _leaves(directory: Path, rounds: int) -> list[Row]:
    tree = directory / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(os.urandom(_LEAVES * BlockSize.LARGE))
    references = _bare(tree / "file")[1]
    bare, seeded = [], []
    with kaplad(directory) as (_, port, _), _seed(directory, tree):
        for number in range(rounds + 1):
            rate = _get(port, references)
            if number:  # the first round is for caches
                bare.append(_bare(tree / "file")[0])
                seeded.append(rate)
    case = "32KiB leaves over TCP, of kapla seed / made and hashed in a bare loop"
    return [compare(case, seeded, bare, "blocks/s", 0.6, 0.9)]


def _bare(path: Path) -> tuple[float, list[bytes]]:
    """Make all leaves of a file, in one loop; how many a second, and their references."""
    references = []
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while leaf := file.read(BlockSize.LARGE):
            ((reference, _),) = encrypt_leaves(
                memoryview(leaf), BlockSize.LARGE, bytes(32), bytearray()
            )
            references.append(reference)
    return len(references) / (time.perf_counter() - began), list(map(bytes, references))


def _get(port: int, references: list[bytes]) -> float:
    """Get blocks over TCP, some under way at once; how many a second."""
    import socket

    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(bytes.fromhex("50e12310000020"))
        reader, sent, got = FrameReader(1 << 20), 0, 0
        began = time.perf_counter()
        while got < len(references):
            more = references[sent : got + _WINDOW]
            if len(more) >= _WINDOW // 4 or (more and sent + len(more) == len(references)):
                connection.sendall(b"".join(map(_question, more)))
                sent += len(more)
            data = connection.recv(1 << 20)
            if not data:
                raise RuntimeError("the daemon has ended the connection")
            for code, _, _, start, stop in reader.feed(data):
                if code == Code.CONTENT and stop - start > BlockSize.LARGE:
                    got += 1
                elif code < Code.CSM:
                    raise RuntimeError("a block is not there")
        return got / (time.perf_counter() - began)


def _question(reference: bytes) -> bytes:
    query = (15, format_base32_reference(reference))
    return format_message(Code.GET, b"t", [*_PATH, query, (60, b"\x80\0")])


@contextmanager
def _seed(directory: Path, tree: Path) -> Iterator[None]:
    """`kapla seed` on the daemon's socket, from when it has read the tree."""
    index = directory / "index"
    kapla = [str(Path(sys.executable).parent / "kapla"), "seed", str(tree), "--index", str(index)]
    subprocess.run([*kapla, "--once"], check=True, stderr=subprocess.DEVNULL)
    url = f"coap+unix://{directory}/s"
    command = [*kapla, "--eris-store-url", url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            if not any("Connected" in line for line in process.stderr):
                raise RuntimeError("the seed has ended")
            yield
        finally:
            process.terminate()


def main() -> None:
    """Print all of it."""
    for tree in sys.argv[1:]:
        found = _read_in(tree)
        print(
            f"{tree}: {found.files} files, {found.size / 1e6:.0f} MB, {found.blocks} blocks;"
            f" index {100 * found.index / found.size:.3f} %;"
            f" {found.size / 1e6 / found.took_s:.0f} MB a second of one processor",
            flush=True,
        )
    print(heading())
    for row in run(5):
        print(format_row(row))


if __name__ == "__main__":
    main()

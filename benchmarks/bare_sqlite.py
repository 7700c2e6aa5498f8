"""A file of 1 GiB through the daemon, against what SQLite alone needs for the same blocks.

The bare side keeps the very blocks that `kapla encode` makes, in the same tables of a file with the
same settings, 64 to a commit, in one loop that does nothing else: no hash, no cipher, no socket, no
look whether a block is there. Then it reads them in the order of the content, 64 to a query. Our
side is the whole command, from the start of its process to its end.

Reading is measured twice: with the store in the page cache, where SQLite alone only copies memory,
and the hash and the cipher that `decode` cannot do without take longer than that (the note says how
long); and with a cold page cache, where both sides wait for the disk.

`kapla decode` writes once to /dev/null, which is like with like since the bare side writes nothing
either, and once to a file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from benchmarks.files import _LARGE, _STEP, _make_file
from benchmarks.growth import _drop_from_cache
from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import kaplad
from eris import BlockSize, ConvergenceSecret, Encoder, Reference
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.schema import prefix_of

__all__ = ["run"]

_TOGETHER: Final = 64
_INSERT_BLOCK: Final = "INSERT INTO blocks (id, reference, block) VALUES (?, ?, ?)"
_INSERT_PLACE: Final = "INSERT INTO places (prefix, block_id) VALUES (?, ?)"
_READ: Final = (
    "SELECT blocks.reference, blocks.block"
    " FROM blocks JOIN places ON blocks.id = places.block_id WHERE places.prefix IN ({})"
)
_KEY: Final = bytes(32)
_NONCE: Final = bytes(16)
_MEMORY_DISK: Final = Path("/dev/shm")

_Blocks = Sequence[tuple[Reference, bytes]]


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds, each with fresh stores."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="kb-") as scratch, _place_for_output() as output:
        content = Path(scratch) / "content"
        _make_file(content)
        blocks = _encode(content)
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="kb-") as directory:
                settings = SqliteSettings(Path(directory) / "b.sqlite")
                seconds["write"].append(_bare_write(settings, blocks))
                seconds["read"].append(_bare_read(settings, blocks))
                _drop_from_cache(settings.path)
                seconds["read, cold"].append(_bare_read(settings, blocks))
            seconds["primitives"].append(_hash_and_decrypt(blocks))
            with (
                tempfile.TemporaryDirectory(prefix="kb-") as directory,
                kaplad(Path(directory)) as (url, _, _),
            ):
                took, urn = _kapla(url, "encode", str(content))
                seconds["encode"].append(took)
                seconds["decode"].append(_kapla(url, "decode", urn, "-")[0])
                seconds["decode to file"].append(_kapla(url, "decode", urn, str(output))[0])
                output.unlink()
                _drop_from_cache(Path(directory) / "b.sqlite")
                seconds["decode, cold"].append(_kapla(url, "decode", urn, "-")[0])
        in_memory = output.is_relative_to(_MEMORY_DISK)

    def row(case: str, ours: str, peer: str, note: str, *marks: float) -> Row:
        return compare(case, seconds[ours], seconds[peer], "s", *marks, at_most=True, note=note)

    limit = f"hash and cipher alone: {statistics.median(seconds['primitives']):.2f} s"
    where = f"to a file {'in memory' if in_memory else 'on the disk'}"
    return [
        row("encode 1 GiB / SQLite writing", "encode", "write", "", 1.5),
        row("decode 1 GiB / SQLite reading", "decode", "read", f"to /dev/null; {limit}", 4, 2),
        row("decode 1 GiB, file / SQLite reading", "decode to file", "read", where),
        row(
            "decode 1 GiB, cold / SQLite reading, cold",
            "decode, cold",
            "read, cold",
            "to /dev/null; page cache cold on both sides",
            4,
            2,
        ),
    ]


@contextmanager
def _place_for_output() -> Iterator[Path]:
    """A file name in memory if there is room, else on the disk."""
    parent = None
    if _MEMORY_DISK.is_dir() and shutil.disk_usage(_MEMORY_DISK).free > 2 * _LARGE:
        parent = _MEMORY_DISK
    with tempfile.TemporaryDirectory(prefix="kb-", dir=parent) as directory:
        yield Path(directory) / "output"


def _encode(content: Path) -> _Blocks:
    """The blocks of the file, all in memory."""
    encoder = Encoder(BlockSize.LARGE, ConvergenceSecret.null())
    blocks: list[tuple[Reference, bytes]] = []
    with content.open("rb") as file:
        while piece := file.read(_STEP):
            blocks += encoder.feed(piece)
    blocks += encoder.finish()
    return blocks


def _connect(settings: SqliteSettings) -> sqlite3.Connection:
    connection = sqlite3.connect(settings.path, isolation_level=None)
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
    connection.execute(f"PRAGMA cache_size = {-(settings.cache_bytes // 1024)}")
    connection.execute(f"PRAGMA mmap_size = {settings.mmap_bytes}")
    return connection


def _bare_write(settings: SqliteSettings, blocks: _Blocks) -> float:
    open_database(settings)  # makes the file and the tables
    with closing(_connect(settings)) as connection:
        begin = time.perf_counter()
        for start in range(0, len(blocks), _TOGETHER):
            rows = [
                (block_id, *item)
                for block_id, item in enumerate(blocks[start : start + _TOGETHER], start + 1)
            ]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT_BLOCK, rows)
            places = [(prefix_of(reference), block_id) for block_id, reference, _ in rows]
            connection.executemany(_INSERT_PLACE, places)
            connection.execute("COMMIT")
        return time.perf_counter() - begin


def _bare_read(settings: SqliteSettings, blocks: _Blocks) -> float:
    with closing(_connect(settings)) as connection:
        begin = time.perf_counter()
        found = 0
        for start in range(0, len(blocks), _TOGETHER):
            prefixes = [prefix_of(name) for name, _ in blocks[start : start + _TOGETHER]]
            statement = _READ.format(", ".join("?" * len(prefixes)))
            found += len(connection.execute(statement, prefixes).fetchall())
        seconds = time.perf_counter() - begin
    if found != len(blocks):
        raise RuntimeError(f"{found} blocks instead of {len(blocks)}")
    return seconds


def _hash_and_decrypt(blocks: _Blocks) -> float:
    begin = time.perf_counter()
    for _, block in blocks:
        blake2b(block, digest_size=32).digest()
        Cipher(ChaCha20(_KEY, _NONCE), None).encryptor().update(block)
    return time.perf_counter() - begin


def _kapla(url: str, *arguments: str) -> tuple[float, str]:
    """Run `kapla`; returns seconds and, of `encode`, the URN."""
    program = Path(sys.executable).with_name("kapla")
    wanted = arguments[0] == "encode"
    begin = time.perf_counter()
    done = subprocess.run(
        [program, *arguments],
        stdout=subprocess.PIPE if wanted else subprocess.DEVNULL,
        env=os.environ | {"ERIS_STORE_URL": url},
        check=True,
    )
    seconds = time.perf_counter() - begin
    return seconds, done.stdout.decode().strip() if wanted else ""


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

"""Blocks of a seed through the daemon, against the same daemon's own.

One client on TCP or a Unix socket keeps 64 requests in flight, as in `wire`. The blocks are stored,
or a seed has them: a process of its own on the daemon's Unix socket that only answers from memory.
So what is measured is the daemon's way from a question to a seed and back. Misses are GETs of what
nobody has, with a seed and without.

`python -m benchmarks.seeds SOCKET SIZE SEED` is that process; it says when it is one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import RawClient, blocks_of_round, kaplad
from eris import BlockSize, reference_of
from eris.base32 import format_base32_reference
from kapla.coap.blocks import SEED_PATH, pack_bitmap, split_references
from kapla.coap.frame import Code, FrameReader, OptionNumber, format_message, parse_body

__all__ = ["run"]

_CSM: Final = bytes.fromhex("50e12310000020")
_RECEIVED: Final = 1 << 18
_LETTERS: Final = 52
# Where the query begins, behind the path.
_QUERY_AT: Final = 12 + 5 + 7 + 2


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds."""
    rates: dict[tuple[str, BlockSize], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="kb-") as name, kaplad(Path(name)) as (_, port, _):
        path = f"{name}/s"
        for number in range(rounds + 1):
            ways: dict[str, str | tuple[str, int]] = {"TCP": ("127.0.0.1", port), "Unix": path}
            for size, (way, address) in product(BlockSize, ways.items()):
                seed = 10 * (2 * number + (way == "Unix"))
                found = _one_round(path, address, size, seed)
                if number:  # the first round is for caches
                    for side, rate in found.items():
                        rates[f"{side} {way}", size].append(rate)
    rows = []
    for size, way in product(BlockSize, ways):
        seeded, stored = rates[f"seeded {way}", size], rates[f"stored {way}", size]
        case = f"GET {size.label} over {way}, of a seed / stored"
        rows.append(compare(case, seeded, stored, "blocks/s"))
        missed, alone = rates[f"missed {way}", size], rates[f"alone {way}", size]
        rows.append(
            compare("  of what nobody has, with a seed / without", missed, alone, "blocks/s")
        )
    return rows


def _one_round(
    path: str, address: str | tuple[str, int], size: BlockSize, seed: int
) -> dict[str, float]:
    client = RawClient(address)
    client.measure("put", size, seed)
    found = {"stored": client.measure("get", size, seed)}
    found["alone"] = client.measure("miss", size, seed + 1)
    with _seed(path, size, seed + 2):
        found["seeded"] = client.measure("get", size, seed + 2)
        found["missed"] = client.measure("miss", size, seed + 3)
    return found


@contextmanager
def _seed(path: str, size: BlockSize, seed: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.seeds", path, str(int(size)), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "a seed\n":
                raise RuntimeError("there is no seed")
            yield
        finally:
            process.terminate()


def _answer(path: str, size: BlockSize, seed: int) -> None:
    """Be a seed, as plain as can be."""
    blocks = {reference_of(block): block for block in blocks_of_round(size, seed)}
    by_text = {format_base32_reference(name): block for name, block in blocks.items()}
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.connect(path)
    path_options = [(int(OptionNumber.URI_PATH), part.encode()) for part in SEED_PATH]
    connection.sendall(_CSM + format_message(Code.POST, b"s", path_options))
    reader = FrameReader(1 << 20)
    while data := connection.recv(_RECEIVED):
        output = []
        for code, token, buffer, start, stop in reader.feed(data):
            if code == Code.GET:
                at = start + _QUERY_AT
                output.append(_response(token, by_text.get(buffer[at : at + _LETTERS])))
            elif code == Code.FETCH:
                names = split_references(parse_body(buffer, start, stop)[1])
                output.append(_response(token, pack_bitmap([name in blocks for name in names])))
            elif token == b"s":
                print("a seed" if code == Code.CHANGED else "none", flush=True)
        connection.sendall(b"".join(output))


def _response(token: bytes, payload: bytes | None) -> bytes:
    if payload is None:
        return format_message(Code.NOT_FOUND, token)
    return format_message(Code.CONTENT, token, payload=payload)


def main() -> None:
    """Print the table; or be a seed."""
    if len(sys.argv) > 2:
        _answer(sys.argv[1], BlockSize(int(sys.argv[2])), int(sys.argv[3]))
        return
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()

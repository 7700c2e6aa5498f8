"""The codec against its own primitives, against python-eris, and against itself on two cores.

Everything is measured in rounds that take turns, so that a busy machine slows all sides alike; a
row gives the medians over the rounds. `python -m benchmarks.codec` prints the table.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from benchmarks.report import Row, compare, format_row, heading
from eris import BlockSize, Decoder, Encoder, ReadCapability, Reference

__all__ = ["run"]

# Content of one measurement. A multiple of both block sizes; long enough for tens of milliseconds.
_LENGTH: Final = 8 * 1024 * 1024
_FEED: Final = 1024 * 1024
# How often that is encoded, in one content, by two at once: until a kernel gives the second a core
# of its own, the tens of milliseconds of the other cases have passed.
_TIMES_FOR_TWO: Final = 16
_WINDOW: Final = 64
_KEY: Final = bytes(32)
_NONCE: Final = bytes(16)


class _Case(NamedTuple):
    name: str
    ours: str
    peer: str
    bar: float | None
    goal: float | None


_CASES: Final = (
    _Case("encode 32KiB / primitives", "encode 32KiB", "hash-cipher-hash 32KiB", 0.85, 0.95),
    _Case("encode 1KiB / primitives", "encode 1KiB", "hash-cipher-hash 1KiB", 0.70, 0.75),
    _Case("decode 32KiB / primitives", "decode 32KiB", "hash-cipher 32KiB", 0.85, 0.95),
    _Case("decode 1KiB / primitives", "decode 1KiB", "hash-cipher 1KiB", 0.70, 0.75),
    _Case("encode 32KiB / python-eris", "encode 32KiB", "python-eris encode 32KiB", 1.5, None),
    _Case("encode 1KiB / python-eris", "encode 1KiB", "python-eris encode 1KiB", 1.8, None),
    _Case("decode 32KiB / python-eris", "decode 32KiB", "python-eris decode 32KiB", 1.5, None),
    _Case("decode 1KiB / python-eris", "decode 1KiB", "python-eris decode 1KiB", 1.8, None),
    _Case("encode 32KiB, two threads / one", "two threads", "one thread", 1.4, None),
    _Case("encode 32KiB, two processes / one thread", "two processes", "one thread", 1.8, None),
)


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    rates: dict[str, list[float]] = defaultdict(list)
    with _measurements() as measurements:
        for measure in measurements.values():
            measure()  # The first time is for caches, imports and worker processes.
        for _ in range(rounds):
            for name, measure in measurements.items():
                rates[name].append(measure() / 1e6)
    return [
        compare(case.name, rates[case.ours], rates[case.peer], "MB/s", case.bar, case.goal)
        for case in _CASES
    ]


@contextmanager
def _measurements() -> Iterator[dict[str, Callable[[], float]]]:
    """All that is measured, by name; each call gives a rate in bytes a second.

    In this order, so that the two sides of a comparison run close to each other.
    """
    found: dict[str, Callable[[], float]] = {}
    with (
        _python_eris() as ask_peer,
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
    ):
        for size in BlockSize:
            name = size.label
            found[f"encode {name}"] = partial(_measure_encode, size)
            found[f"hash-cipher-hash {name}"] = partial(_measure_encode_primitives, size)
            found[f"python-eris encode {name}"] = partial(ask_peer, "encode", size)
            found[f"decode {name}"] = partial(_measure_decode, size)
            found[f"hash-cipher {name}"] = partial(_measure_decode_primitives, size)
            found[f"python-eris decode {name}"] = partial(ask_peer, "decode", size)
        found["one thread"] = partial(_measure_encode, BlockSize.LARGE, _TIMES_FOR_TWO)
        found["two threads"] = partial(_measure_two, threads)
        found["two processes"] = partial(_measure_two, processes)
        yield found


@cache
def _content() -> bytes:
    return random.Random(_LENGTH).randbytes(_LENGTH)


@cache
def _pieces(size: int) -> list[bytes]:
    content = _content()
    return [content[at : at + size] for at in range(0, len(content), size)]


@cache
def _encoded(block_size: BlockSize) -> tuple[ReadCapability, dict[Reference, bytes]]:
    encoder = Encoder(block_size)
    blocks = dict(encoder.feed(_content()))
    blocks.update(encoder.finish())
    return encoder.read_capability, blocks


def _measure_encode(block_size: BlockSize, times: int = 1) -> float:
    pieces = _pieces(_FEED) * times
    begin = time.perf_counter()
    encoder = Encoder(block_size)
    # Nothing is kept on any side: what is measured is a stream passing through.
    for piece in pieces:
        encoder.feed(piece)
    encoder.finish()
    return times * _LENGTH / (time.perf_counter() - begin)


def _measure_decode(block_size: BlockSize) -> float:
    capability, blocks = _encoded(block_size)
    begin = time.perf_counter()
    decoder = Decoder(capability, lookahead=_WINDOW)
    length = 0
    while wanted := decoder.wanted(_WINDOW):
        for reference in wanted:
            length += len(decoder.receive(blocks[reference]))
    seconds = time.perf_counter() - begin
    assert length == _LENGTH
    return _LENGTH / seconds


def _measure_encode_primitives(block_size: BlockSize) -> float:
    leaves = _pieces(int(block_size))
    begin = time.perf_counter()
    for leaf in leaves:
        key = blake2b(leaf, digest_size=32, key=_KEY).digest()
        block = Cipher(ChaCha20(key, _NONCE), None).encryptor().update(leaf)
        blake2b(block, digest_size=32).digest()
    return _LENGTH / (time.perf_counter() - begin)


def _measure_decode_primitives(block_size: BlockSize) -> float:
    # The decoder's own blocks: where they lie in memory matters as much as the code.
    blocks = list(_encoded(block_size)[1].values())[: _LENGTH // block_size]
    begin = time.perf_counter()
    for block in blocks:
        key = blake2b(block, digest_size=32).digest()
        Cipher(ChaCha20(key, _NONCE), None).decryptor().update(block)
    return _LENGTH / (time.perf_counter() - begin)


def _measure_two(workers: Executor) -> float:
    """Encode twice at the same time; the rate of both together."""
    _pieces(_FEED)
    begin = time.perf_counter()
    work = partial(_measure_encode, BlockSize.LARGE, _TIMES_FOR_TWO)
    for future in [workers.submit(work) for _ in range(2)]:
        future.result()
    return 2 * _TIMES_FOR_TWO * _LENGTH / (time.perf_counter() - begin)


@contextmanager
def _python_eris() -> Iterator[Callable[[str, BlockSize], float]]:
    """Start python-eris in its own environment; gives a function that asks it for one rate."""
    python = os.environ.get("KAPLA_PEERS_PYTHON", ".venv-peers/bin/python")
    script = Path(__file__).with_name("peers") / "python_eris_codec.py"
    with subprocess.Popen(
        [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        commands, answers = peer.stdin, peer.stdout

        def ask(operation: str, block_size: BlockSize) -> float:
            print(operation, int(block_size), _LENGTH, file=commands, flush=True)
            answer = json.loads(answers.readline())
            return _LENGTH / float(answer["seconds"])

        yield ask
        commands.close()


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(heading())
    for row in run(rounds):
        print(format_row(row))


if __name__ == "__main__":
    main()

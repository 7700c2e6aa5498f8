"""Runs python-eris's codec for `benchmarks.codec`, in python-eris's own environment.

Reads one command a line on standard input, `encode SIZE LENGTH` or `decode SIZE LENGTH`, and
answers with one line of JSON: the seconds it took. Started as a script, it sees the `eris` of its
own interpreter, never ours.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import cache
from typing import Any

# An untyped package, whose name is that of ours.
python_eris: Any = __import__("eris")
encoder_module: Any = __import__("eris.encoder", fromlist=["BlockGenerator"])


@cache
def make_content(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def encode(block_size: int, content: bytes) -> float:
    """Feed in block-sized writes: its buffer makes larger ones slower."""
    writes = [content[at : at + block_size] for at in range(0, len(content), block_size)]
    begin = time.perf_counter()
    generator = encoder_module.BlockGenerator(block_size)
    for write in writes:
        for _ in generator.update(write):
            pass
    for _ in generator.finalize():
        pass
    return time.perf_counter() - begin


@cache
def make_store(block_size: int, length: int) -> tuple[Any, Any]:
    """Encode once into its store in memory; gives the store and the read capability."""
    generator = encoder_module.BlockGenerator(block_size)
    store = python_eris.DictStore()
    content = make_content(length)
    for at in range(0, length, block_size):
        store.dict.update(generator.update(content[at : at + block_size]))
    store.dict.update(generator.finalize())
    return store, generator.read_capability


def decode(block_size: int, content: bytes) -> float:
    store, capability = make_store(block_size, len(content))

    async def read() -> float:
        begin = time.perf_counter()
        result = await python_eris.Decoder(store, capability).readall()
        seconds = time.perf_counter() - begin
        assert result == content
        return seconds

    return asyncio.run(read())


def main() -> None:
    for line in sys.stdin:
        operation, block_size, length = line.split()
        content = make_content(int(length))
        if operation == "encode":
            seconds = encode(int(block_size), content)
        else:
            seconds = decode(int(block_size), content)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()

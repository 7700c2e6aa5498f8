"""Encodes and decodes a long keystream, and tells how much memory that took.

`python -m tests.eris.stream_large NAME LENGTH BLOCK-SIZE FILE` keeps the blocks in FILE, one after
another, and prints a line of JSON: the URN, whether the content came back, and the most anonymous
memory in bytes. A process of its own, because only then the memory is the codec's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from eris import BlockSize, Decoder, Encoder, ReadCapability, Reference
from tests.eris.helpers import keystream

_SAMPLE_EVERY = 32


def anonymous_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell RssAnon")


class PeakMemory:
    """The most memory seen in samples taken now and then."""

    def __init__(self) -> None:
        self.bytes = anonymous_memory()
        self._calls = 0

    def sample(self) -> None:
        self._calls += 1
        if self._calls % _SAMPLE_EVERY == 0:
            self.bytes = max(self.bytes, anonymous_memory())


def encode(
    name: str, length: int, block_size: BlockSize, file: int, peak: PeakMemory
) -> tuple[ReadCapability, dict[Reference, int]]:
    encoder = Encoder(block_size)
    places: dict[Reference, int] = {}
    for blocks in chain(map(encoder.feed, keystream(name, length)), iter_finish(encoder)):
        for reference, block in blocks:
            os.pwrite(file, block, places.setdefault(reference, len(places)) * block_size)
        peak.sample()
    return encoder.read_capability, places


def iter_finish(encoder: Encoder) -> Iterator[list[tuple[Reference, bytes]]]:
    yield encoder.finish()


def decode(
    capability: ReadCapability, file: int, places: dict[Reference, int], peak: PeakMemory
) -> Iterator[bytes]:
    size = capability.block_size
    decoder = Decoder(capability)
    while wanted := decoder.wanted(64):
        for reference in wanted:
            yield decoder.receive(os.pread(file, size, places[reference] * size))
        peak.sample()


def is_keystream(name: str, length: int, pieces: Iterator[bytes], piece_size: int) -> bool:
    """Compare piece by piece: leaves are of one size, but for an empty or shorter last one."""
    expected = keystream(name, length, piece_size)
    found = filter(None, pieces)
    same = all(a == b for a, b in zip(expected, found, strict=True))
    return same and not list(islice(expected, 1))


def main() -> None:
    name, length, block_size, path = sys.argv[1:]
    size = BlockSize(int(block_size))
    peak = PeakMemory()
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    capability, places = encode(name, int(length), size, file, peak)
    same = is_keystream(name, int(length), decode(capability, file, places, peak), size)
    print(json.dumps({"urn": capability.to_urn(), "same": same, "peak": peak.bytes}))


if __name__ == "__main__":
    main()

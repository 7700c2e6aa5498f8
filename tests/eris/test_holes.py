"""Holes: zeros that nobody read, and that become what zeros become."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eris
from eris import BlockSize, ConvergenceSecret, Encoder, Hole, MemoryStore, Reference
from eris.transfer import put_content, stream_content
from tests.eris.helpers import make_content, naive_encode, patient

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE

holes = st.integers(1, 40_000).map(Hole)
data = st.integers(0, 3000).map(make_content)


def flat(pieces: list[bytes | Hole]) -> bytes:
    return b"".join(bytes(piece) if isinstance(piece, Hole) else piece for piece in pieces)


class Pieces:
    """A file that is read in these pieces."""

    def __init__(self, pieces: list[bytes | Hole]) -> None:
        self._pieces = iter(pieces)

    def read(self, size: int, /) -> bytes | Hole:
        return next(self._pieces, b"")


@patient
@given(st.lists(data | holes, max_size=6), st.binary(min_size=32, max_size=32))
def test_a_hole_is_what_zeros_are(pieces: list[bytes | Hole], secret: bytes) -> None:
    encoder = Encoder(SMALL, ConvergenceSecret(secret))
    blocks = dict(chain.from_iterable(map(encoder.feed, pieces)))
    blocks.update(encoder.finish())
    assert (encoder.read_capability, blocks) == naive_encode(flat(pieces), SMALL, secret)


@pytest.mark.parametrize("length", [1, 32767, 32768, 32769, 512 * 32768, 513 * 32768 + 5])
def test_a_hole_alone(length: int) -> None:
    encoder = Encoder(LARGE)
    blocks = dict([*encoder.feed(Hole(length)), *encoder.finish()])
    assert (encoder.read_capability, blocks) == eris.encode(bytes(length), block_size=LARGE)


def test_a_hole_of_any_length_is_a_few_blocks() -> None:
    encoder = Encoder(LARGE)
    made = [*encoder.feed(Hole(1 << 38)), *encoder.finish()]
    assert len(made) < 20
    assert encoder.read_capability.level == 3


def test_data_that_repeats_comes_out_each_time() -> None:
    encoder = Encoder(SMALL)
    made = [*encoder.feed(bytes(4096)), *encoder.finish()]
    assert len(made) == eris.node.block_count(4096, SMALL)


@pytest.mark.parametrize(
    "pieces",
    [
        [Hole(100_000), b"end"],
        [b"a", b"b", Hole(10), b"c"],
        [b"a" * 10_000, Hole(10_000), b"b" * 20_000],
        [Hole(16 * 1024 - 1)],
        [Hole(16 * 1024)],
        [],
    ],
)
def test_a_sparse_file_into_a_store(pieces: list[bytes | Hole]) -> None:
    async def main() -> None:
        store, content = MemoryStore(), flat(pieces)
        capability = await put_content(store, Pieces(pieces))
        assert capability == eris.encode(content)[0]
        assert await eris.get_content(store, capability) == content

    asyncio.run(main())


class CountingStore(MemoryStore):
    gets = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.gets += 1
        return await super().get(reference, block_size)


@pytest.mark.parametrize("content", [bytes(1 << 26), bytes(40 * 32768) + b"x" * 70_000])
def test_zeros_are_asked_for_a_few_times(content: bytes) -> None:
    async def main() -> None:
        store = CountingStore()
        capability = await put_content(store, Pieces([content]))
        leaves = len(content) // LARGE
        pieces = [piece async for piece in stream_content(store, capability)]
        assert b"".join(pieces) == content
        assert store.gets < leaves / 3

    asyncio.run(main())

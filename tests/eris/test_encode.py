from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eris
from eris import BlockSize, ConvergenceSecret, Encoder, Reference, reference_of
from eris.base32 import short
from tests.eris.helpers import (
    blake2b_256,
    chacha20,
    encode_pieces,
    make_content,
    naive_encode,
    patient,
)

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE
both_sizes = pytest.mark.parametrize("block_size", BlockSize, ids=lambda size: size.label)

# Around the ends of the first blocks of 32 KiB.
LARGE_LENGTHS = [32768 * blocks + near for blocks in (1, 2, 3) for near in (-2, -1, 0, 1, 2)]


def cut(content: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def test_every_tail_of_two_blocks_of_1_kib() -> None:
    content = make_content(2048)
    for length in range(2049):
        capability, blocks = eris.encode(content[:length], block_size=SMALL)
        assert (capability, blocks) == naive_encode(content[:length], SMALL)
        assert len(blocks) == (1, 3, 4)[length // 1024]


@pytest.mark.parametrize("length", [0, 1, 2, 1023, 1024, 1025, *LARGE_LENGTHS])
def test_around_the_ends_of_blocks_of_32_kib(length: int) -> None:
    content = make_content(length)
    assert eris.encode(content, block_size=LARGE) == naive_encode(content, LARGE)


@pytest.mark.parametrize("leaves", [15, 16, 17, 31, 32, 33, 240, 255, 256, 257, 258, 272, 273])
def test_around_the_ends_of_nodes_of_1_kib(leaves: int) -> None:
    for near in (-1, 0, 1):
        content = make_content(leaves * 1024 + near)
        assert eris.encode(content, block_size=SMALL) == naive_encode(content, SMALL)


@pytest.mark.parametrize("leaves", [511, 512, 513])
@pytest.mark.parametrize("near", [-2, -1, 0, 1, 2])
def test_around_the_ends_of_nodes_of_32_kib(leaves: int, near: int) -> None:
    length = leaves * 32768 + near
    capability, blocks = encode_pieces(cut(bytes(length), 1 << 20), LARGE)
    expected, expected_blocks = naive_encode(bytes(length), LARGE)
    assert capability == expected
    assert dict(blocks) == expected_blocks
    padded_leaves = leaves + (near >= 0)
    assert capability.level == (1 if padded_leaves <= 512 else 2)
    assert len(blocks) == eris.node.block_count(length, LARGE)


def test_17_leaves_leave_a_single_pair_that_is_wrapped() -> None:
    content = make_content(17 * 1024 - 1)
    capability, blocks = eris.encode(content, block_size=SMALL)
    assert capability.level == 2
    assert len(blocks) == 17 + 2 + 1


@both_sizes
@pytest.mark.parametrize("piece", [1, 7, 1000, 1023, 1024, 1025, 4096, 100_000])
def test_how_it_is_fed_does_not_matter(block_size: BlockSize, piece: int) -> None:
    content = make_content(70_001)
    whole = encode_pieces(iter([content]), block_size)
    assert encode_pieces(cut(content, piece), block_size) == whole


@patient
@given(
    st.lists(st.integers(0, 3000), max_size=12),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**16),
)
def test_any_pieces_make_the_same_blocks(lengths: list[int], secret: bytes, seed: int) -> None:
    content = make_content(sum(lengths), seed)
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    pieces = [content[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    capability, blocks = encode_pieces(iter(pieces), SMALL, secret)
    assert (capability, dict(blocks)) == naive_encode(content, SMALL, secret)


@both_sizes
def test_any_buffer_will_do(block_size: BlockSize) -> None:
    content = make_content(100_000)
    expected = encode_pieces(iter([content]), block_size)
    buffers: list[bytearray | memoryview] = [
        bytearray(content),
        memoryview(content),
        memoryview(content).cast("I"),
        memoryview(content).cast("B", (100, 1000)),
    ]
    for buffer in buffers:
        encoder = Encoder(block_size)
        blocks = encoder.feed(buffer)
        blocks += encoder.finish()
        assert (encoder.read_capability, blocks) == expected


def test_the_size_is_chosen_by_bytes_not_items() -> None:
    items = memoryview(bytes(16384)).cast("Q")
    assert eris.encode(items)[0].block_size == LARGE


def test_what_was_fed_may_change_afterwards() -> None:
    content = make_content(3000)
    buffer = bytearray(content)
    encoder = Encoder(SMALL)
    blocks = encoder.feed(buffer)
    buffer[:] = bytes(3000)
    buffer.clear()
    blocks += encoder.finish()
    assert (encoder.read_capability, dict(blocks)) == naive_encode(content, SMALL)


@both_sizes
def test_blocks_come_out_in_the_order_in_which_they_are_made(block_size: BlockSize) -> None:
    """As soon as they are full: all leaves, and each node right after its last child."""
    content = make_content(40 * 1024)
    encoder = Encoder(block_size)
    made = []
    for at in range(0, len(content), 512):
        made += encoder.feed(content[at : at + 512])
        fed = at + 512
        full_leaves = fed // block_size
        full_nodes = full_leaves // block_size.arity
        assert len(made) == full_leaves + full_nodes
    made += encoder.finish()
    # Reading the tree depth-first, left to right, children first, gives that very order.
    blocks = dict(made)

    def walk(reference: Reference, key: bytes, level: int) -> Iterator[Reference]:
        if level:
            plain = chacha20(key, level, blocks[reference])
            for child, child_key in eris.node.unpack_node(plain):
                yield from walk(child, child_key, level - 1)
        yield reference

    capability = encoder.read_capability
    order = list(walk(*capability.root, capability.level))
    assert [short(reference) for reference, _ in made] == [short(each) for each in order]


@both_sizes
def test_blocks_have_their_reference_and_size(block_size: BlockSize) -> None:
    capability, blocks = encode_pieces(iter([make_content(600_000)]), block_size)
    assert all(reference_of(block) == reference for reference, block in blocks)
    assert all(type(block) is bytes and len(block) == block_size for _, block in blocks)
    assert capability.root.reference == blocks[-1][0]


def test_equal_blocks_come_out_each_time() -> None:
    capability, blocks = encode_pieces(iter([bytes(16 * 1024)]), SMALL)
    assert len(blocks) == 17 + 3
    assert len(dict(blocks)) == 1 + 1 + 3
    assert (capability, dict(blocks)) == naive_encode(bytes(16 * 1024), SMALL)


def test_the_capability_is_there_at_the_end_only() -> None:
    encoder = Encoder(SMALL)
    with pytest.raises(ValueError, match="not finished"):
        _ = encoder.read_capability
    encoder.feed(b"Hail ERIS!")
    with pytest.raises(ValueError, match="not finished"):
        _ = encoder.read_capability
    encoder.finish()
    capability = encoder.read_capability
    with pytest.raises(ValueError, match="finished already"):
        encoder.feed(b"more")
    with pytest.raises(ValueError, match="finished already"):
        encoder.finish()
    assert encoder.read_capability == capability


@pytest.mark.parametrize(("length", "size"), [(0, SMALL), (16383, SMALL), (16384, LARGE)])
def test_the_16_kib_rule(length: int, size: BlockSize) -> None:
    assert eris.encode(bytes(length))[0].block_size == size
    for given_size in BlockSize:
        assert eris.encode(bytes(length), block_size=given_size)[0].block_size == given_size


def test_null_is_the_default_secret() -> None:
    content = make_content(5000)
    given_null = eris.encode(content, convergence_secret=ConvergenceSecret.null())
    assert eris.encode(content) == given_null
    assert eris.encode(content, convergence_secret=ConvergenceSecret(bytes(32))) == given_null


def test_content_converges_under_one_secret_only() -> None:
    content = make_content(5000)
    secret = ConvergenceSecret(make_content(32))
    ours, blocks = eris.encode(content, convergence_secret=secret)
    assert eris.encode(content, convergence_secret=secret) == (ours, blocks)
    null, null_blocks = eris.encode(content)
    assert ours != null
    assert not blocks.keys() & null_blocks.keys()
    unique = [eris.encode(content, convergence_secret=ConvergenceSecret.unique()) for _ in range(5)]
    assert len({capability.to_urn() for capability, _ in unique}) == 5
    for capability, blocks in unique:
        assert eris.decode(capability, blocks) == content


def test_the_secret_keys_leaves_but_not_nodes() -> None:
    secret = ConvergenceSecret(make_content(32))
    leaf = make_content(1023) + b"\x80"
    single, _ = eris.encode(leaf[:-1], block_size=SMALL, convergence_secret=secret)
    assert bytes(single.root.key) == blake2b_256(leaf, bytes(secret)) != blake2b_256(leaf)

    tree, blocks = eris.encode(make_content(5000), block_size=SMALL, convergence_secret=secret)
    assert tree.level == 1
    root = chacha20(tree.root.key, 1, blocks[tree.root.reference])
    assert bytes(tree.root.key) == blake2b_256(root) != blake2b_256(root, bytes(secret))


def test_memory_does_not_grow_with_the_content() -> None:
    encoder = Encoder(SMALL)
    piece = bytes(64 * 1024)
    encoder.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(256):
            encoder.feed(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One piece's blocks, and what lies around.
    assert peak < 4 * len(piece)

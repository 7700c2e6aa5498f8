from __future__ import annotations

import random
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eris
from eris import (
    BlockNotFound,
    BlockSize,
    ContentError,
    CorruptBlock,
    Decoder,
    InvalidKey,
    InvalidNode,
    InvalidPadding,
    Key,
    ReadCapability,
    Reference,
    ReferenceKeyPair,
)
from tests.eris.helpers import (
    blake2b_256,
    chacha20,
    encode_node,
    encode_pieces,
    make_content,
    naive_encode,
    patient,
)

SMALL, LARGE = BlockSize.SMALL, BlockSize.LARGE
both_sizes = pytest.mark.parametrize("block_size", BlockSize, ids=lambda size: size.label)
Blocks = dict[Reference, bytes]


def drive(
    decoder: Decoder, blocks: Blocks, *, limit: int = 1, asked: list[Reference] | None = None
) -> bytes:
    """Answer a decoder until it wants no more."""
    content = []
    while wanted := decoder.wanted(limit):
        assert len(wanted) <= limit
        if asked is not None:
            asked += wanted
        content += [decoder.receive(blocks[reference]) for reference in wanted]
    assert decoder.done
    return b"".join(content)


def on_the_way(length: int, block_size: BlockSize, start: int, stop: int) -> int:
    """How many blocks, leaves and nodes, lie over the bytes from `start` up to `stop`."""
    leaves = eris.node.leaf_count(length, block_size)
    level = eris.node.tree_level(leaves, block_size)
    first, last = start // block_size, min(leaves - 1, (stop - 1) // block_size)
    return sum(
        last // block_size.arity**each - first // block_size.arity**each + 1
        for each in range(level + 1)
    )


def test_every_tail_of_two_blocks_of_1_kib() -> None:
    content = make_content(2048)
    for length in range(2049):
        encoded = naive_encode(content[:length], SMALL)
        assert eris.decode(*encoded) == content[:length]


@pytest.mark.parametrize(
    "length",
    [0, 1, 2, *(32768 * blocks + near for blocks in (1, 2, 3) for near in (-2, -1, 0, 1, 2))],
)
def test_around_the_ends_of_blocks_of_32_kib(length: int) -> None:
    content = make_content(length)
    assert eris.decode(*naive_encode(content, LARGE)) == content


@pytest.mark.parametrize("leaves", [15, 16, 17, 31, 32, 33, 255, 256, 257, 258, 272, 273])
def test_around_the_ends_of_nodes_of_1_kib(leaves: int) -> None:
    for near in (-2, -1, 0, 1, 2):
        content = make_content(leaves * 1024 + near)
        assert eris.decode(*naive_encode(content, SMALL)) == content


@pytest.mark.parametrize("leaves", [511, 512, 513])
@pytest.mark.parametrize("near", [-2, -1, 0, 1, 2])
def test_around_the_ends_of_nodes_of_32_kib(leaves: int, near: int) -> None:
    content = bytes(leaves * 32768 + near)
    capability, blocks = eris.encode(content, block_size=LARGE)
    assert eris.decode(capability, blocks) == content
    asked: list[Reference] = []
    end = drive(Decoder(capability, start=len(content) - 3), blocks, asked=asked)
    assert end == bytes(3)
    assert len(asked) == on_the_way(len(content), LARGE, len(content) - 3, len(content) + 32768)


@patient
@given(
    st.integers(0, 40_000),
    st.sampled_from(BlockSize),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 200),
    st.integers(1, 200),
)
def test_decode_inverts_encode(
    length: int, block_size: BlockSize, secret: bytes, lookahead: int, limit: int
) -> None:
    content = make_content(length)
    capability, made = encode_pieces(iter([content]), block_size, secret)
    blocks = dict(made)
    assert eris.decode(capability, blocks) == content
    assert drive(Decoder(capability, lookahead=lookahead), blocks, limit=limit) == content


# Three levels, every block another.
DEEP = make_content(5000 * 1024 + 77)
DEEP_CAPABILITY, DEEP_BLOCKS = eris.encode(DEEP, block_size=SMALL)


def test_the_deep_content_is_deep() -> None:
    assert DEEP_CAPABILITY.level == 4
    assert len(DEEP_BLOCKS) == eris.node.block_count(len(DEEP), SMALL)


@pytest.mark.parametrize("lookahead", [0, 1, 2, 15, 16, 17, 64, 200, 5000])
@pytest.mark.parametrize("limit", [1, 3, 64])
def test_each_block_is_asked_once(lookahead: int, limit: int) -> None:
    asked: list[Reference] = []
    decoder = Decoder(DEEP_CAPABILITY, lookahead=lookahead)
    assert drive(decoder, DEEP_BLOCKS, limit=limit, asked=asked) == DEEP
    assert len(asked) == len(DEEP_BLOCKS) == len(set(asked))


@patient
@given(
    st.integers(0, len(DEEP) + 100),
    st.integers(0, 60_000),
    st.integers(0, 100),
    st.integers(1, 100),
)
def test_a_range_is_a_slice(start: int, length: int, lookahead: int, limit: int) -> None:
    asked: list[Reference] = []
    decoder = Decoder(DEEP_CAPABILITY, start=start, stop=start + length, lookahead=lookahead)
    found = drive(decoder, DEEP_BLOCKS, limit=limit, asked=asked)
    assert found == DEEP[start : start + length]
    if found:
        assert len(asked) == on_the_way(len(DEEP), SMALL, start, start + length)
    elif length == 0:
        assert not asked


@patient
@given(st.integers(0, 70_000), st.integers(0, 80_000), st.integers(0, 80_000))
def test_a_range_of_large_blocks_is_a_slice(size: int, start: int, length: int) -> None:
    content = make_content(size)
    capability, blocks = eris.encode(content, block_size=LARGE)
    assert drive(Decoder(capability, start=start), blocks) == content[start:]
    found = drive(Decoder(capability, start=start, stop=start + length), blocks)
    assert found == content[start : start + length]


def test_ranges_around_every_edge() -> None:
    content = make_content(18 * 1024)
    capability, blocks = eris.encode(content, block_size=SMALL)
    edges = [
        edge + near for edge in (0, 1024, 2048, 15360, 16384, 17408, 18432) for near in (-1, 0, 1)
    ]
    for start in edges:
        for stop in edges:
            if 0 <= start <= stop:
                found = drive(Decoder(capability, start=start, stop=stop), blocks)
                assert found == content[start:stop]


@pytest.mark.parametrize("length", [0, 5, 1023, 1024, 3000, 16384, 300_000])
@pytest.mark.parametrize("beyond", [0, 1, 1023, 1024, 1025, 100_000, 2**70])
def test_beyond_the_end_is_nothing(length: int, beyond: int) -> None:
    capability, blocks = eris.encode(make_content(length), block_size=SMALL)
    start = length + beyond
    assert drive(Decoder(capability, start=start), blocks) == b""
    assert drive(Decoder(capability, start=start, stop=start + 5000), blocks) == b""


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (-1, 5), (5, 4), (0, -1)])
def test_other_ranges_are_refused(start: int, stop: int | None) -> None:
    with pytest.raises(ValueError, match="range"):
        Decoder(DEEP_CAPABILITY, start=start, stop=stop)


def test_an_empty_range_wants_nothing() -> None:
    for at in (0, 7, 5000, 2**70):
        decoder = Decoder(DEEP_CAPABILITY, start=at, stop=at)
        assert decoder.done
        assert decoder.wanted(10) == []


def test_nothing_is_received_unasked() -> None:
    decoder = Decoder(DEEP_CAPABILITY)
    with pytest.raises(ValueError, match="asked for"):
        decoder.receive(bytes(1024))
    with pytest.raises(ValueError, match="asked for"):
        decoder.skip()
    [root] = decoder.wanted(100)
    assert not decoder.done
    assert decoder.wanted(100) == []
    decoder.receive(DEEP_BLOCKS[root])
    assert decoder.wanted(100)


@pytest.mark.parametrize("burst", [1, 16, 32])
def test_a_window_is_filled_without_waiting_for_nodes(burst: int) -> None:
    """Once it runs, a caller with 64 requests in flight never has fewer for want of knowledge."""
    decoder = Decoder(DEEP_CAPABILITY, lookahead=64)
    in_flight: deque[Reference] = deque()
    received = 0
    while not decoder.done:
        if len(in_flight) <= 64 - burst:
            in_flight += decoder.wanted(64 - len(in_flight))
            if 400 < received < len(DEEP_BLOCKS) - 400:
                assert len(in_flight) == 64
        decoder.receive(DEEP_BLOCKS[in_flight.popleft()])
        received += 1
    assert received == len(DEEP_BLOCKS)


def test_memory_does_not_grow_with_the_content() -> None:
    """64 MiB of zeroes are five different blocks, so that the blocks take no memory either."""
    encoder = eris.Encoder(SMALL)
    blocks: Blocks = {}
    for _ in range(64):
        blocks.update(encoder.feed(bytes(1024 * 1024)))
    blocks.update(encoder.finish())
    assert len(blocks) < 20
    decoder = Decoder(encoder.read_capability)
    length = 0
    tracemalloc.start()
    try:
        while wanted := decoder.wanted(64):
            for reference in wanted:
                length += len(decoder.receive(blocks[reference]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 64 * 1024 * 1024
    # A pair known ahead takes some 300 bytes, and at each of five levels there are a node's worth
    # and the look-ahead.
    assert peak < 256 * 1024


def test_a_missing_block_is_named() -> None:
    for lost in random.Random(1).sample(sorted(DEEP_BLOCKS), 20):
        blocks = {name: block for name, block in DEEP_BLOCKS.items() if name != lost}
        with pytest.raises(BlockNotFound) as caught:
            eris.decode(DEEP_CAPABILITY, blocks)
        assert caught.value.reference == lost


def broken(block: bytes) -> Iterator[bytes]:
    yield bytes([block[0] ^ 1]) + block[1:]
    yield block[:-1] + bytes([block[-1] ^ 0x80])
    yield bytes(len(block))


def cut_or_grown(block: bytes) -> Iterator[bytes]:
    yield b""
    yield block[:-1]
    yield block + b"\0"
    yield block * 32


@pytest.mark.parametrize("lost", random.Random(2).sample(sorted(DEEP_BLOCKS), 5))
def test_a_broken_block_is_named(lost: Reference) -> None:
    for wrong in broken(DEEP_BLOCKS[lost]):
        with pytest.raises(CorruptBlock) as caught:
            eris.decode(DEEP_CAPABILITY, {**DEEP_BLOCKS, lost: wrong})
        assert caught.value.reference == lost
        assert caught.value.size is caught.value.expected_size is None
    for wrong in cut_or_grown(DEEP_BLOCKS[lost]):
        with pytest.raises(CorruptBlock) as caught:
            eris.decode(DEEP_CAPABILITY, {**DEEP_BLOCKS, lost: wrong})
        assert caught.value.reference == lost
        assert (caught.value.size, caught.value.expected_size) == (len(wrong), 1024)


def pair_of(plain: bytes, level: int, blocks: Blocks) -> bytes:
    """Make a node, remember its block, give its pair."""
    reference, key, block = encode_node(plain, level)
    blocks[reference] = block
    return reference + bytes(key)


def leaf_pair(blocks: Blocks, number: int, *, last: bool = False) -> bytes:
    leaf = number.to_bytes(4, "big") * 255 + (b"\x80\0\0\0" if last else b"leaf")
    key = blake2b_256(leaf, bytes(32))
    block = chacha20(key, 0, leaf)
    reference = Reference(blake2b_256(block))
    blocks[reference] = block
    return reference + key


def as_capability(pair: bytes, level: int) -> ReadCapability:
    return ReadCapability(SMALL, level, ReferenceKeyPair(Reference(pair[:32]), Key(pair[32:])))


def node_of(pairs: list[bytes]) -> bytes:
    return b"".join(pairs).ljust(1024, b"\0")


HostileTree = Callable[[Blocks], ReadCapability]


def one_pair_root(blocks: Blocks) -> ReadCapability:
    return as_capability(pair_of(node_of([leaf_pair(blocks, 0, last=True)]), 1, blocks), 1)


def one_pair_root_of_two_levels(blocks: Blocks) -> ReadCapability:
    node = pair_of(node_of([leaf_pair(blocks, 0), leaf_pair(blocks, 1, last=True)]), 1, blocks)
    return as_capability(pair_of(node_of([node]), 2, blocks), 2)


def inner_node_not_full(blocks: Blocks) -> ReadCapability:
    left = pair_of(node_of([leaf_pair(blocks, number) for number in range(15)]), 1, blocks)
    right = pair_of(node_of([leaf_pair(blocks, 16, last=True)]), 1, blocks)
    return as_capability(pair_of(node_of([left, right]), 2, blocks), 2)


def pair_after_a_gap(blocks: Blocks) -> ReadCapability:
    pairs = [leaf_pair(blocks, 0), bytes(64), leaf_pair(blocks, 1, last=True)]
    return as_capability(pair_of(node_of(pairs), 1, blocks), 1)


def empty_root(blocks: Blocks) -> ReadCapability:
    return as_capability(pair_of(bytes(1024), 1, blocks), 1)


def empty_last_node(blocks: Blocks) -> ReadCapability:
    left = pair_of(node_of([leaf_pair(blocks, number) for number in range(16)]), 1, blocks)
    return as_capability(pair_of(node_of([left, pair_of(bytes(1024), 1, blocks)]), 2, blocks), 2)


@pytest.mark.parametrize(
    "build",
    [
        one_pair_root,
        one_pair_root_of_two_levels,
        inner_node_not_full,
        pair_after_a_gap,
        empty_root,
        empty_last_node,
    ],
)
def test_trees_that_no_encoder_makes(build: HostileTree) -> None:
    blocks: Blocks = {}
    capability = build(blocks)
    with pytest.raises(InvalidNode):
        eris.decode(capability, blocks)


def test_the_same_tools_make_a_good_tree() -> None:
    """So the trees above are refused for what is said, not for how they are made."""
    blocks: Blocks = {}
    left = pair_of(node_of([leaf_pair(blocks, number) for number in range(16)]), 1, blocks)
    right = pair_of(node_of([leaf_pair(blocks, 16, last=True)]), 1, blocks)
    content = eris.decode(as_capability(pair_of(node_of([left, right]), 2, blocks), 2), blocks)
    assert len(content) == 16 * 1024 + 1020
    assert eris.encode(content, block_size=LARGE)
    assert eris.encode(content, block_size=SMALL)[1] == blocks


def test_every_key_of_a_node_is_checked() -> None:
    """The standard demands it for the root; here a wrong key further down is noticed too."""
    blocks: Blocks = {}
    good = pair_of(node_of([leaf_pair(blocks, number) for number in range(16)]), 1, blocks)
    right = pair_of(node_of([leaf_pair(blocks, 16, last=True)]), 1, blocks)
    wrong = good[:32] + bytes([good[32] ^ 1]) + good[33:]
    with pytest.raises(InvalidKey) as caught:
        eris.decode(as_capability(pair_of(node_of([wrong, right]), 2, blocks), 2), blocks)
    assert caught.value.reference == good[:32]
    assert caught.value.level == 1


def test_a_node_at_another_level_is_refused() -> None:
    blocks: Blocks = {}
    pairs = node_of([leaf_pair(blocks, 0), leaf_pair(blocks, 1, last=True)])
    for level in (0, 2, 3, 255):
        pair = pair_of(pairs, 1, blocks)
        with pytest.raises(ContentError):
            eris.decode(as_capability(pair, level), blocks)


def test_padding_is_looked_for_in_the_last_leaf_only() -> None:
    content = make_content(1000) + b"\x80" + bytes(23) + bytes(1024) + make_content(10)
    assert eris.decode(*eris.encode(content, block_size=SMALL)) == content
    blocks: Blocks = {}
    pairs = [leaf_pair(blocks, 0, last=True), leaf_pair(blocks, 1)]
    with pytest.raises(InvalidPadding):
        eris.decode(as_capability(pair_of(node_of(pairs), 1, blocks), 1), blocks)


def test_reading_from_the_start_does_not_need_the_end() -> None:
    blocks: Blocks = {}
    pairs = [leaf_pair(blocks, 0), leaf_pair(blocks, 1)]
    capability = as_capability(pair_of(node_of(pairs), 1, blocks), 1)
    assert len(drive(Decoder(capability, stop=1024), blocks)) == 1024
    with pytest.raises(InvalidPadding):
        drive(Decoder(capability, start=1024), blocks)


def verify(capability: ReadCapability, blocks: Blocks) -> tuple[dict[Reference, str], bytes]:
    """Go on after every error, as a verifier does; gives what was wrong, and the content found."""
    decoder = Decoder(capability)
    wrong: dict[Reference, str] = {}
    content = b""
    while wanted := decoder.wanted(10):
        for reference in wanted:
            if reference not in blocks:
                assert decoder.skip() == reference
                wrong[reference] = "missing"
                continue
            try:
                content += decoder.receive(blocks[reference])
            except ContentError as error:
                wrong[reference] = type(error).__name__
    assert decoder.done
    return wrong, content


@pytest.mark.parametrize("seed", range(10))
def test_after_errors_the_rest_is_found(seed: int) -> None:
    chance = random.Random(seed)
    content = make_content(300 * 1024 - 1, seed)
    capability, made = encode_pieces(iter([content]), SMALL)
    blocks = dict(made)
    nodes = nodes_of(capability, blocks)
    leaves = [name for name, _ in made if name not in nodes]
    assert len(leaves) == 300
    lost, spoiled = chance.sample(leaves[:-1], 5), chance.sample(leaves[:-1], 5)
    expected = dict.fromkeys(lost, "missing")
    expected |= {name: "CorruptBlock" for name in spoiled if name not in lost}
    altered = {name: block for name, block in blocks.items() if name not in lost}
    altered |= {name: bytes(1024) for name in spoiled if name not in lost}
    wrong, found = verify(capability, altered)
    assert wrong == expected
    assert found == b"".join(
        content[index * 1024 : (index + 1) * 1024]
        for index, name in enumerate(leaves)
        if name not in expected
    )


def nodes_of(capability: ReadCapability, blocks: Blocks) -> dict[Reference, int]:
    """The internal nodes of a content and their levels."""
    found: dict[Reference, int] = {}
    below = [(capability.root.reference, bytes(capability.root.key))]
    for level in range(capability.level, 0, -1):
        found |= {reference: level for reference, _ in below}
        below = [
            (child, bytes(key))
            for reference, parent_key in below
            for child, key in eris.node.unpack_node(chacha20(parent_key, level, blocks[reference]))
        ]
    return found


def test_what_lies_under_a_lost_node_is_left_out() -> None:
    content = make_content(300 * 1024 - 1)
    capability, blocks = eris.encode(content, block_size=SMALL)
    nodes = nodes_of(capability, blocks)
    for lost, level in nodes.items():
        rest = {name: block for name, block in blocks.items() if name != lost}
        wrong, found = verify(capability, rest)
        assert wrong == {lost: "missing"}
        if level == capability.level:
            assert not found
        else:
            at = next(
                at for at in range(len(content)) if found[at : at + 1] != content[at : at + 1]
            )
            left_out = min(16**level * 1024, len(content) - at)
            assert found == content[:at] + content[at + left_out :]

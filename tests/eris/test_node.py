from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import BlockSize, InvalidNode, InvalidPadding, Key
from eris import node as layout
from tests.eris.helpers import make_content, naive_encode, patient

both_sizes = pytest.mark.parametrize("block_size", BlockSize, ids=lambda size: size.label)
sizes = st.sampled_from(BlockSize)


@patient
@given(st.binary(max_size=1023))
def test_unpad_inverts_pad(tail: bytes) -> None:
    padded = layout.pad(tail, 1024)
    assert padded == tail + b"\x80" + bytes(1023 - len(tail))
    assert layout.unpad(padded) == tail


def test_the_mark_may_stand_anywhere() -> None:
    for index in range(1024):
        leaf = b"\1" * index + b"\x80" + bytes(1023 - index)
        assert layout.unpad(leaf) == b"\1" * index


@pytest.mark.parametrize(
    "leaf",
    [
        bytes(1024),
        b"\x81" + bytes(1023),
        b"\x80" + bytes(1022) + b"\1",
        b"\xff" * 1024,
        b"\x80" * 1023 + b"\x40",
    ],
)
def test_other_endings_are_no_padding(leaf: bytes) -> None:
    with pytest.raises(InvalidPadding):
        layout.unpad(leaf)


def test_content_that_looks_like_padding_is_kept() -> None:
    content = b"\x80\0\0\x80\0\0"
    assert layout.unpad(layout.pad(content, 1024)) == content


@both_sizes
def test_pairs_in_order(block_size: BlockSize) -> None:
    pairs = make_content(block_size)
    for count in {1, 2, block_size.arity - 1, block_size.arity}:
        plain = pairs[: 64 * count].ljust(block_size, b"\0")
        found = layout.unpack_node(plain)
        assert layout.count_pairs(plain) == len(found) == count
        assert b"".join(a + bytes(b) for a, b in found) == plain[: 64 * count]
        assert list(layout.iter_pairs(plain, 0, count)) == [(a, bytes(b)) for a, b in found]
        assert type(found[0].key) is Key


def test_a_pair_may_hold_zeroes() -> None:
    """Only 64 zeroes in a slot of their own are an unused slot."""
    for pair in (
        bytes(63) + b"\1",
        b"\1" + bytes(63),
        bytes(32) + b"\1" * 32,
        b"\1" * 32 + bytes(32),
    ):
        for count in (1, 3, 16):
            plain = (pair * count).ljust(1024, b"\0")
            assert layout.count_pairs(plain) == count
    # 64 zeroes, but across two pairs.
    plain = (b"\1" + bytes(63) + bytes(63) + b"\1").ljust(1024, b"\0")
    assert layout.count_pairs(plain) == 2


@both_sizes
def test_a_node_holds_a_pair(block_size: BlockSize) -> None:
    with pytest.raises(InvalidNode, match="no pair"):
        layout.count_pairs(bytes(block_size))


@both_sizes
def test_nothing_follows_an_unused_slot(block_size: BlockSize) -> None:
    full = make_content(block_size)
    for gap in {0, 1, block_size.arity // 2, block_size.arity - 2}:
        plain = full[: gap * 64] + bytes(64) + full[(gap + 1) * 64 :]
        with pytest.raises(InvalidNode, match="unused slot"):
            layout.count_pairs(plain)
        with pytest.raises(InvalidNode, match="unused slot"):
            layout.unpack_node(plain)
        # A single bit is enough.
        plain = (full[: (gap or 1) * 64] + bytes(64)).ljust(block_size - 1, b"\0") + b"\1"
        with pytest.raises(InvalidNode, match="unused slot"):
            layout.count_pairs(plain)


@patient
@given(st.lists(st.sampled_from([bytes(64), b"\1" * 64, bytes(63) + b"\1"]), max_size=16))
def test_any_node_is_read_or_refused(slots: list[bytes]) -> None:
    plain = b"".join(slots).ljust(1024, b"\0")
    used = [plain[at : at + 64] for at in range(0, 1024, 64)]
    while used and used[-1] == bytes(64):
        used.pop()
    if not used or bytes(64) in used:
        with pytest.raises(InvalidNode):
            layout.count_pairs(plain)
    else:
        assert layout.count_pairs(plain) == len(used)


@pytest.mark.parametrize(
    ("length", "leaves"), [(0, 1), (1, 1), (1023, 1), (1024, 2), (1025, 2), (2047, 2), (2048, 3)]
)
def test_leaf_count(length: int, leaves: int) -> None:
    assert layout.leaf_count(length, BlockSize.SMALL) == leaves


@both_sizes
def test_tree_level(block_size: BlockSize) -> None:
    arity = block_size.arity
    for level in range(5):
        assert layout.tree_level(arity**level, block_size) == level
        assert layout.tree_level(arity**level + 1, block_size) == level + 1
    assert layout.tree_level(2, block_size) == 1


@pytest.mark.parametrize("leaves", [1, 2, 15, 16, 17, 18, 32, 33, 255, 256, 257, 258, 272, 273])
def test_shape_of_the_tree(leaves: int) -> None:
    """Numbered content, so that no two blocks are equal and all can be counted."""
    length = leaves * 1024 - 1
    content = b"".join(number.to_bytes(4, "big") for number in range(leaves * 256))[:length]
    capability, blocks = naive_encode(content, BlockSize.SMALL)
    assert layout.leaf_count(length, BlockSize.SMALL) == leaves
    assert layout.tree_level(leaves, BlockSize.SMALL) == capability.level
    assert layout.block_count(length, BlockSize.SMALL) == len(blocks)


@patient
@given(st.integers(0, 2**50), sizes)
def test_counts_agree(length: int, block_size: BlockSize) -> None:
    leaves = layout.leaf_count(length, block_size)
    level = layout.tree_level(leaves, block_size)
    assert block_size.arity**level >= leaves
    assert level == 0 or block_size.arity ** (level - 1) < leaves
    nodes = sum(-(-leaves // block_size.arity**each) for each in range(level + 1))
    assert layout.block_count(length, block_size) == nodes

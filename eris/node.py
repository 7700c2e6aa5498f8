"""The layout of nodes: padding of the last leaf, pairs of an internal node, shape of the tree.

Pure functions of bytes and numbers. The padding rule lives here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from eris.errors import InvalidNode, InvalidPadding
from eris.model import (
    KEY_SIZE,
    PAIR_SIZE,
    REFERENCE_SIZE,
    BlockSize,
    Key,
    Reference,
    ReferenceKeyPair,
)

__all__ = [
    "block_count",
    "count_pairs",
    "iter_pairs",
    "leaf_count",
    "pad",
    "references_in",
    "tree_level",
    "unpack_node",
    "unpad",
]

_MARK = b"\x80"
_NO_PAIR = bytes(PAIR_SIZE)
_PAIR = Struct(f"{REFERENCE_SIZE}s{KEY_SIZE}s")
_REFERENCE_OF_PAIR = Struct(f"{REFERENCE_SIZE}s{KEY_SIZE}x")


def pad(tail: bytes | bytearray, block_size: int) -> bytes:
    """Pad the last piece of content, 0 to block_size - 1 bytes, to a whole leaf.

    Source: ERIS 1.0.0, "Padding": 0x80, then zeroes; at least one byte always.
    """
    return (bytes(tail) + _MARK).ljust(block_size, b"\0")


def unpad(leaf: bytes) -> bytes:
    """Take the padding off the last leaf; the result is shorter by at least one byte.

    Raises: InvalidPadding. The mark may stand at index 0: content that fills its blocks is
    followed by a leaf of padding only.
    """
    content = leaf.rstrip(b"\0")
    if not content.endswith(_MARK):
        raise InvalidPadding
    return content[:-1]


def count_pairs(node: bytes) -> int:
    """Count the pairs of a decrypted internal node, 1 to arity.

    Raises: InvalidNode, if it has none, or if anything follows an unused slot.
    Source: ERIS 1.0.0, "Decoding".
    """
    # A full node is by far the most common one, and shows it by its last slot.
    if node[-PAIR_SIZE:] != _NO_PAIR:
        count = len(node) // PAIR_SIZE
    else:
        count = -(-len(node.rstrip(b"\0")) // PAIR_SIZE)
    if count == 0:
        raise InvalidNode("it holds no pair")
    used = node[: count * PAIR_SIZE]
    if _NO_PAIR in used:
        # The pattern may also straddle two pairs, which is harmless; ask slot by slot.
        for start in range(0, len(used), PAIR_SIZE):
            if used[start : start + PAIR_SIZE] == _NO_PAIR:
                raise InvalidNode("a pair follows an unused slot")
    return count


def iter_pairs(node: bytes, first: int, last: int) -> Iterator[tuple[Reference, bytes]]:
    """Read the pairs from number `first` up to `last` as bare bytes: for the decoder's hot path."""
    return _PAIR.iter_unpack(memoryview(node)[first * PAIR_SIZE : last * PAIR_SIZE])


def references_in(node: bytes, count: int) -> list[Reference]:
    """Read the references of the first `count` pairs alone."""
    references = _REFERENCE_OF_PAIR.iter_unpack(memoryview(node)[: count * PAIR_SIZE])
    return [reference for (reference,) in references]


def unpack_node(node: bytes) -> tuple[ReferenceKeyPair, ...]:
    """Read the pairs of a decrypted internal node, in content order.

    `node` is one whole block; the result has 1 to arity pairs, unused slots being zero.
    Raises: InvalidNode, if a pair follows an unused slot, or there is no pair.
    Source: ERIS 1.0.0, "Decoding".
    """
    return tuple(
        ReferenceKeyPair(
            Reference(node[start : start + REFERENCE_SIZE]),
            Key(node[start + REFERENCE_SIZE : start + PAIR_SIZE]),
        )
        for start in range(0, count_pairs(node) * PAIR_SIZE, PAIR_SIZE)
    )


def leaf_count(content_length: int, block_size: BlockSize) -> int:
    """How many leaves content of this many bytes has, padding included."""
    return content_length // block_size + 1


def tree_level(leaves: int, block_size: BlockSize) -> int:
    """The level of the root over this many leaves: the smallest L with arity^L >= leaves."""
    level = 0
    while leaves > 1:
        leaves = -(-leaves // block_size.arity)
        level += 1
    return level


def block_count(content_length: int, block_size: BlockSize) -> int:
    """How many blocks, leaves and internal nodes, encode content of this many bytes.

    Equal blocks are counted as often as they occur.
    """
    nodes = leaf_count(content_length, block_size)
    total = nodes
    while nodes > 1:
        nodes = -(-nodes // block_size.arity)
        total += nodes
    return total

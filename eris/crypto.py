"""The one file that names a hash or cipher library.

Blake2b comes from hashlib (it releases the GIL for a block of 32 KiB), ChaCha20 from OpenSSL
through `cryptography`. The functions work on whole nodes or blocks, leaves even on many at once,
because at 1 KiB a Python call costs a noticeable part of the hash itself. For the same reason a
hash begins as a copy of one that is set up already, which spares reading its parameters.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, cast

from eris.errors import CorruptBlock
from eris.model import Reference

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

__all__ = [
    "Buffer",
    "content_key",
    "encrypt_leaf_again",
    "encrypt_leaves",
    "encrypt_node",
    "open_block",
    "reference_of",
]

Buffer = bytes | bytearray | memoryview

_DIGEST_SIZE: Final = 32
# A nonce of RFC 8439 for each level: the library wants the 32-bit block counter (0, little
# endian) in front of the 12-byte nonce, whose byte 0 is the level.
_NONCES: Final = tuple(bytes(4) + bytes([level]) + bytes(11) for level in range(256))
_start_hash: Final = blake2b(digest_size=_DIGEST_SIZE).copy


def reference_of(block: Buffer) -> Reference:
    """Compute the reference of a block: its unkeyed Blake2b-256."""
    return cast(Reference, blake2b(block, digest_size=_DIGEST_SIZE).digest())


@cache
def _library() -> tuple[type[Cipher[None]], type[ChaCha20]]:
    """Load the cipher when there is a node for it: it takes longer than a whole short command."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    return Cipher, ChaCha20


content_key = reference_of
"""The key of an internal node: the unkeyed Blake2b-256 of its plaintext."""


def encrypt_leaves(
    leaves: memoryview, block_size: int, secret: bytes, pairs: bytearray
) -> list[tuple[Reference, bytes]]:
    """Encrypt padded leaves that lie one after another, under a convergence secret.

    Returns (reference, block) of each, and appends its reference-key pair to `pairs`.
    """
    cipher, chacha20 = _library()
    start_keyed_hash, nonce = blake2b(digest_size=_DIGEST_SIZE, key=secret).copy, _NONCES[0]
    blocks = []
    for start in range(0, len(leaves), block_size):
        leaf = leaves[start : start + block_size]
        state = start_keyed_hash()
        state.update(leaf)
        key = state.digest()
        block = cipher(chacha20(key, nonce), None).encryptor().update(leaf)
        state = _start_hash()
        state.update(block)
        reference = state.digest()
        pairs += reference + key
        blocks.append((reference, block))
    return cast(list[tuple[Reference, bytes]], blocks)


def encrypt_leaf_again(leaf: Buffer, key: bytes) -> tuple[Reference, bytes]:
    """Encrypt one padded leaf whose key is known from before; returns (reference, block).

    Of another leaf than before it makes a block of another reference: compare that.
    """
    cipher, chacha20 = _library()
    block = cipher(chacha20(key, _NONCES[0]), None).encryptor().update(leaf)
    state = _start_hash()
    state.update(block)
    return cast(Reference, state.digest()), block


def encrypt_node(node: Buffer, level: int) -> tuple[Reference, bytes, bytes]:
    """Encrypt one padded internal node of level 1 to 255; returns (reference, key, block).

    The convergence secret plays no part: the pairs in the node already depend on it.
    """
    cipher, chacha20 = _library()
    key = blake2b(node, digest_size=_DIGEST_SIZE).digest()
    block = cipher(chacha20(key, _NONCES[level]), None).encryptor().update(node)
    return cast(Reference, blake2b(block, digest_size=_DIGEST_SIZE).digest()), key, block


def open_block(block: Buffer, reference: bytes, key: bytes, level: int, block_size: int) -> bytes:
    """Check that a block is the one that `reference` names, and decrypt it; returns the node.

    Raises: CorruptBlock, if it has another size or does not hash to its reference.
    """
    if len(block) != block_size:
        raise CorruptBlock(reference, size=len(block), expected_size=block_size)
    state = _start_hash()
    state.update(block)
    if state.digest() != reference:
        raise CorruptBlock(reference)
    cipher, chacha20 = _library()
    return cipher(chacha20(key, _NONCES[level]), None).decryptor().update(block)

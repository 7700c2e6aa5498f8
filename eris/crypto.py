"""The one file that names a hash or cipher library.

Blake2b comes from hashlib (it releases the GIL for a block of 32 KiB), ChaCha20 from OpenSSL
through `cryptography`. The functions work on one whole node or block each, because at 1 KiB a
Python call costs a noticeable part of the hash itself.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, cast

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from eris.model import Reference

__all__ = ["Buffer", "content_key", "decrypt", "encrypt_leaf", "encrypt_node", "reference_of"]

Buffer = bytes | bytearray | memoryview

_DIGEST_SIZE: Final = 32
# A nonce of RFC 8439 for each level: the library wants the 32-bit block counter (0, little
# endian) in front of the 12-byte nonce, whose byte 0 is the level.
_NONCES: Final = tuple(bytes(4) + bytes([level]) + bytes(11) for level in range(256))
_LEAF_NONCE: Final = _NONCES[0]


def reference_of(block: Buffer) -> Reference:
    """Compute the reference of a block: its unkeyed Blake2b-256."""
    return cast(Reference, blake2b(block, digest_size=_DIGEST_SIZE).digest())


content_key = reference_of
"""The key of an internal node: the unkeyed Blake2b-256 of its plaintext."""


def encrypt_leaf(leaf: Buffer, secret: bytes) -> tuple[Reference, bytes, bytes]:
    """Encrypt one padded leaf under a convergence secret; returns (reference, key, block)."""
    key = blake2b(leaf, digest_size=_DIGEST_SIZE, key=secret).digest()
    block = Cipher(ChaCha20(key, _LEAF_NONCE), None).encryptor().update(leaf)
    return cast(Reference, blake2b(block, digest_size=_DIGEST_SIZE).digest()), key, block


def encrypt_node(node: Buffer, level: int) -> tuple[Reference, bytes, bytes]:
    """Encrypt one padded internal node of level 1 to 255; returns (reference, key, block).

    The convergence secret plays no part: the pairs in the node already depend on it.
    """
    key = blake2b(node, digest_size=_DIGEST_SIZE).digest()
    block = Cipher(ChaCha20(key, _NONCES[level]), None).encryptor().update(node)
    return cast(Reference, blake2b(block, digest_size=_DIGEST_SIZE).digest()), key, block


def decrypt(block: Buffer, key: bytes, level: int) -> bytes:
    """Decrypt one block of a node of this level."""
    return Cipher(ChaCha20(key, _NONCES[level]), None).decryptor().update(block)

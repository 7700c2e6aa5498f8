"""The small types of ERIS: what the standard's words mean as Python values.

A `Reference` names public ciphertext and is plain bytes with a type-checker's label, free on hot
paths. Keys and secrets are `bytes` with a redacted repr, so that no log line or traceback shows
them by accident.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Final, NamedTuple, NewType, Self

__all__ = [
    "CAPABILITY_SIZE",
    "KEY_SIZE",
    "NULL_CONVERGENCE_SECRET",
    "PAIR_SIZE",
    "REFERENCE_SIZE",
    "SMALL_CONTENT_LIMIT",
    "BlockSize",
    "ConvergenceSecret",
    "EncodedBlock",
    "Hole",
    "Key",
    "Reference",
    "ReferenceKeyPair",
    "choose_block_size",
]

REFERENCE_SIZE: Final = 32
KEY_SIZE: Final = 32
PAIR_SIZE: Final = REFERENCE_SIZE + KEY_SIZE
CAPABILITY_SIZE: Final = 2 + PAIR_SIZE

SMALL_CONTENT_LIMIT: Final = 16 * 1024
"""Content below this many bytes is encoded with 1 KiB blocks, else with 32 KiB ones.

Not normative, but the choice of the other implementations: keeping to it is what makes the same
content have the same URN everywhere.
"""

Reference = NewType("Reference", bytes)
"""The unkeyed Blake2b-256 of an (encrypted) block, 32 bytes."""


class BlockSize(IntEnum):
    """The two block sizes of ERIS 1.0.0, in bytes."""

    SMALL = 1024
    LARGE = 32768

    @property
    def arity(self) -> int:
        """How many reference-key pairs fit an internal node: 16 or 512."""
        return self // PAIR_SIZE

    @property
    def code(self) -> int:
        """The byte that stands for this size in a read capability: log2 of the size."""
        return self.bit_length() - 1

    @property
    def label(self) -> str:
        """`1KiB` or `32KiB`, as people write it."""
        return f"{self // 1024}KiB"


class _Secret(bytes):
    """32 bytes that must not be shown."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> Self:
        if len(value) != KEY_SIZE:
            raise ValueError(f"{cls.__name__} has {len(value)} bytes instead of {KEY_SIZE}")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, redacted>"

    __str__ = __repr__


class Key(_Secret):
    """The ChaCha20 key of one node, 32 bytes."""

    __slots__ = ()


class ConvergenceSecret(_Secret):
    """The 32 bytes that key the hash of leaf nodes.

    With the null secret equal content has an equal URN everywhere; with a secret of one's own the
    blocks tell nobody else whether one holds a given file.
    """

    __slots__ = ()

    @classmethod
    def null(cls) -> Self:
        """32 zero bytes: content converges for everybody."""
        return cls(bytes(KEY_SIZE))

    @classmethod
    def unique(cls) -> Self:
        """32 bytes from the system's random source: content converges with nothing."""
        return cls(os.urandom(KEY_SIZE))


NULL_CONVERGENCE_SECRET: Final = ConvergenceSecret.null()


class ReferenceKeyPair(NamedTuple):
    """Where a node is and how to read it."""

    reference: Reference
    key: Key


EncodedBlock = tuple[Reference, bytes]
"""One block as the encoder hands it out: its reference and its 1 KiB or 32 KiB."""


class Hole(int):
    """So many bytes of zeros, one at least, that nobody had to read: a hole in a sparse file."""

    __slots__ = ()


def choose_block_size(content_length: int) -> BlockSize:
    """Pick the block size that other programs would pick for content of this many bytes."""
    return BlockSize.SMALL if content_length < SMALL_CONTENT_LIMIT else BlockSize.LARGE

"""`ReadCapability`, and its binary, URN and CBOR forms.

Whoever holds one can read the content, so its repr is redacted; `to_urn()`, `to_bytes()` and
`to_cbor()` are the ways out. Parsing is strict: but for the letter case of a URN's prefix, each
capability has one spelling in each form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from eris.base32 import format_base32, parse_base32
from eris.errors import InvalidCapability
from eris.model import CAPABILITY_SIZE, BlockSize, Key, Reference, ReferenceKeyPair

__all__ = [
    "URN_PREFIX",
    "ReadCapability",
    "format_block_urn",
]

URN_PREFIX: Final = "urn:eris:"
_BLOCK_URN_PREFIX: Final = "urn:blake2b:"
_URN_LETTERS: Final = 106
# Tag 276 (d9 0114) on a byte string of 66 bytes (58 42), as registered with IANA.
_CBOR_PREFIX: Final = bytes.fromhex("d901145842")
_BLOCK_SIZES: Final = {size.code: size for size in BlockSize}


@dataclass(frozen=True, slots=True, repr=False)
class ReadCapability:
    """All that is needed to fetch and read some content: 66 bytes.

    `level` is that of the root node, 0 (a single leaf) to 255.
    Source: ERIS 1.0.0, "Read Capability".
    """

    block_size: BlockSize
    level: int
    root: ReferenceKeyPair

    def __repr__(self) -> str:
        return f"<ReadCapability {self.block_size.label} level {self.level}, redacted>"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the 66-byte binary form.

        Raises: InvalidCapability.
        """
        if len(data) != CAPABILITY_SIZE:
            raise InvalidCapability(f"{len(data)} bytes instead of {CAPABILITY_SIZE}")
        block_size = _BLOCK_SIZES.get(data[0])
        if block_size is None:
            raise InvalidCapability(f"unknown block-size code 0x{data[0]:02x}")
        root = ReferenceKeyPair(Reference(bytes(data[2:34])), Key(bytes(data[34:])))
        return cls(block_size, data[1], root)

    @classmethod
    def from_urn(cls, urn: str) -> Self:
        """Read `urn:eris:` and 106 letters of Base32; the prefix in any case, as URNs have it.

        Raises: InvalidCapability, also for the draft namespaces urn:erisx2 and urn:erisx3.
        """
        prefix, letters = urn[: len(URN_PREFIX)].lower(), urn[len(URN_PREFIX) :]
        if prefix != URN_PREFIX:
            if prefix.startswith("urn:erisx"):
                raise InvalidCapability("urn:erisx… is a draft that ERIS 1.0.0 replaced")
            raise InvalidCapability(f"it does not begin with {URN_PREFIX}")
        if len(letters) != _URN_LETTERS:
            raise InvalidCapability(
                f"{len(letters)} letters after {URN_PREFIX} instead of {_URN_LETTERS}"
            )
        try:
            data = parse_base32(letters)
        except ValueError as error:
            raise InvalidCapability(str(error)) from None
        return cls.from_bytes(data)

    @classmethod
    def from_cbor(cls, data: bytes) -> Self:
        """Read the CBOR form: tag 276 on the 66 bytes, in shortest encoding.

        Raises: InvalidCapability.
        """
        if not data.startswith(_CBOR_PREFIX):
            raise InvalidCapability("no CBOR tag 276 on a 66-byte string")
        return cls.from_bytes(data[len(_CBOR_PREFIX) :])

    def to_bytes(self) -> bytes:
        """Give the 66-byte binary form."""
        return bytes([self.block_size.code, self.level]) + self.root.reference + self.root.key

    def to_urn(self) -> str:
        """Give the URN, 115 characters. It is a secret as much as the content is."""
        return URN_PREFIX + format_base32(self.to_bytes())

    def to_cbor(self) -> bytes:
        """Give the CBOR form, 71 bytes."""
        return _CBOR_PREFIX + self.to_bytes()


def format_block_urn(reference: Reference) -> str:
    """Name one block: `urn:blake2b:` and 52 letters. Not a secret."""
    return _BLOCK_URN_PREFIX + format_base32(reference)

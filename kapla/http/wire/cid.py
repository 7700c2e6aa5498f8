"""The CID of a block, and back: how IPFS names the bytes that ERIS names by their reference.

A CID of version 1 is a version, the kind of content, and a hash with its kind and length in front.
Of a block these are raw bytes and Blake2b-256, so that the last 32 bytes are its reference, and all
before them are the same for every block. In text a letter in front tells the base. Base32 in lower
case, `b`, is what programs write; what is easy to read besides is read too.
Source: the CID and multibase specifications; the table of multicodec.
"""

from __future__ import annotations

import re
from typing import Final

from eris.base32 import format_base32, parse_base32
from eris.model import REFERENCE_SIZE, Reference

__all__ = ["format_cid", "parse_cid"]

# Version 1, raw (0x55), blake2b-256 (0xb220, as an unsigned varint), 32 bytes.
_PREFIX: Final = bytes.fromhex("0155a0e40220")
_SIZE: Final = len(_PREFIX) + REFERENCE_SIZE
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LONGEST: Final = 128
"""Base16 of a block's CID has 77 letters; what is longer is no name of a block in any base."""
_RAW: Final = 0x55
_BLAKE2B_256: Final = 0xB220


def format_cid(reference: Reference) -> str:
    """Write the CID of a block, 32 bytes, in 62 letters: `bafk2bz…`."""
    return "b" + format_base32(_PREFIX + reference).lower()


def parse_cid(text: str) -> Reference:
    """Read the CID of a block, in Base32 of either case, Base16 or Base58.

    Raises: ValueError, with the reason: it is no CID, or not one that a block can have.
    """
    if len(text) > _LONGEST:
        raise ValueError("longer than the CID of a block is in any base")
    data = _decode(text)
    if data.startswith(_PREFIX) and len(data) == _SIZE:
        return Reference(data[len(_PREFIX) :])
    raise ValueError(_what_else(data))


def _decode(text: str) -> bytes:
    base, letters = text[:1], text[1:]
    if base in ("b", "B"):
        if letters != (letters.lower() if base == "b" else letters.upper()):
            raise ValueError("a letter is not of the case that its first one tells")
        return parse_base32(letters.upper())
    if base == "f" and re.fullmatch(r"([0-9a-f]{2})+", letters):
        return bytes.fromhex(letters)
    if base == "z":
        return _decode_base58(letters)
    if text.startswith("Qm") and len(text) == 46:
        raise ValueError("a CID of version 0, whose hash is SHA2-256; a block has Blake2b-256")
    raise ValueError("not a CID in Base32, Base16 or Base58")


def _decode_base58(letters: str) -> bytes:
    number = 0
    for letter in letters:
        digit = _BASE58.find(letter)
        if digit < 0:
            raise ValueError("a character is not in the Base58 alphabet")
        number = number * 58 + digit
    # A leading 1 is a zero byte, which no CID begins with.
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _what_else(data: bytes) -> str:
    """Why these bytes name no block: what they have in the place of what a block has."""
    try:
        version, rest = _take_number(data)
        codec, rest = _take_number(rest)
        kind, rest = _take_number(rest)
        length, digest = _take_number(rest)
    except ValueError:
        return "not a CID: it is cut off"
    if version != 1:
        return f"a CID of version {version}, not 1"
    if codec != _RAW:
        return f"content of the kind {codec:#x}; a block is raw bytes ({_RAW:#x})"
    if kind != _BLAKE2B_256:
        return f"a hash of the kind {kind:#x}; a block has Blake2b-256 ({_BLAKE2B_256:#x})"
    if length != REFERENCE_SIZE or len(digest) != length:
        return f"a hash of {len(digest)} bytes; a block has one of {REFERENCE_SIZE}"
    return "a number in it is not written in the shortest way"


def _take_number(data: bytes) -> tuple[int, bytes]:
    """Read an unsigned varint, of 9 bytes at most as its specification has it, and what follows."""
    number = 0
    for position, byte in enumerate(data[:9]):
        number |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return number, data[position + 1 :]
    raise ValueError("cut off")

"""The base 32 of Guix and Nix: its own alphabet, and digits in their own order.

The bytes are one little-endian integer, written with its most significant digit first. That leaves
out the letters e, o, t and u, and needs no padding: n bytes are ceil(8n/5) digits, 52 for a SHA-256
and 32 for the 20 bytes of a hash part.
"""

from __future__ import annotations

from typing import Final

from guix_glue.errors import InvalidEncoding

__all__ = ["ALPHABET", "decode", "encode"]

ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(ALPHABET)}

# Python's own base 32 (int(text, 32) and no more) has the digits 0-9a-v.
_FROM_PYTHON: Final = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")


def encode(data: bytes) -> str:
    """Write bytes as digits."""
    number = int.from_bytes(data, "little")
    count = (8 * len(data) + 4) // 5
    return "".join(ALPHABET[number >> (5 * place) & 31] for place in reversed(range(count)))


def decode(text: str) -> bytes:
    """Read digits: 5n/8 bytes of n digits.

    Raises: InvalidEncoding, for other letters, for a number of digits that no bytes have, and for
    bits beyond the last byte.
    """
    size = 5 * len(text) // 8
    if (8 * size + 4) // 5 != len(text):
        raise InvalidEncoding(f"no bytes have {len(text)} digits of nix-base32")
    if not _VALUES.keys() >= set(text):
        raise InvalidEncoding("a letter is none of nix-base32")
    number = int(text.translate(_FROM_PYTHON) or "0", 32)
    if number >> (8 * size):
        raise InvalidEncoding("the nix-base32 has bits beyond its last byte")
    return number.to_bytes(size, "little")

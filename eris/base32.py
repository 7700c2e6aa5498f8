"""RFC 4648 Base32 as ERIS uses it: upper case, unpadded, spare bits zero.

Strict on the way in: any other spelling of the same bytes is refused, so that a text form is as
unique as the bytes it stands for.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

__all__ = [
    "format_base32",
    "format_base32_reference",
    "parse_base32",
    "parse_base32_reference",
    "short",
]

_SHORT_LETTERS: Final = 8
_REFERENCE_LETTERS: Final = 52
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Python reads numbers of base 32 in C, with digits 0-9a-v; everything that is not in the Base32
# alphabet becomes a character that is no digit of any base.
_TO_DIGITS: Final = bytes(
    b"0123456789abcdefghijklmnopqrstuv"[_ALPHABET.index(letter)]
    if letter in _ALPHABET
    else ord("!")
    for letter in range(256)
)


def _spread(half: int) -> tuple[int, int, int]:
    """One step of moving groups of five bits apart, to eight bits each; 64 groups are enough.

    Before it 2 * `half` groups are close together, and after it half as many: masks for the lower
    and the upper ones, and how far the upper ones move.
    """
    low = sum(((1 << 5 * half) - 1) << start * 8 for start in range(0, 64, 2 * half))
    return low, low << 5 * half, 3 * half


_SPREAD: Final = tuple(_spread(half) for half in (32, 16, 8, 4, 2, 1))
_TO_LETTERS: Final = _ALPHABET.ljust(256, b"!")


def format_base32(data: bytes) -> str:
    """Write `data` (any length) as unpadded upper-case Base32."""
    return base64.b32encode(data).rstrip(b"=").decode("ascii")


def format_base32_reference(reference: bytes) -> bytes:
    """Write 32 bytes as 52 letters: `format_base32`, at a quarter of its cost.

    A client writes one of these in every GET.
    """
    number = int.from_bytes(reference, "big") << 4
    for low, high, shift in _SPREAD:
        number = number & low | (number & high) << shift
    return number.to_bytes(_REFERENCE_LETTERS, "big").translate(_TO_LETTERS)


def parse_base32(text: str | bytes) -> bytes:
    """Read unpadded upper-case Base32.

    Raises: ValueError, on a foreign character, an impossible length, padding, or spare bits that
    are not zero.
    """
    if isinstance(text, str):
        try:
            text = text.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("a character is not in the Base32 alphabet") from None
    try:
        data = base64.b32decode(text + b"=" * (-len(text) % 8))
    except binascii.Error:
        raise ValueError("not upper-case, unpadded Base32") from None
    if base64.b32encode(data).rstrip(b"=") != text:
        raise ValueError("the spare bits at the end of the Base32 text are not zero")
    return data


def parse_base32_reference(letters: bytes) -> bytes:
    """Read the 32 bytes of exactly 52 letters: `parse_base32`, at a twentieth of its cost.

    A server reads one of these in every request.
    Raises: ValueError.
    """
    if len(letters) != _REFERENCE_LETTERS:
        raise ValueError(f"a reference has {_REFERENCE_LETTERS} letters, not {len(letters)}")
    number = int(letters.translate(_TO_DIGITS), 32)
    if number & 15:
        raise ValueError("the spare bits at the end of the Base32 text are not zero")
    return (number >> 4).to_bytes(32, "big")


def short(reference: bytes) -> str:
    """Name a reference in messages and logs: its first eight letters."""
    return format_base32(reference[:5])[:_SHORT_LETTERS]

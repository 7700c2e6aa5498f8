"""RFC 4648 Base32 as ERIS uses it: upper case, unpadded, spare bits zero.

Strict on the way in: any other spelling of the same bytes is refused, so that a text form is as
unique as the bytes it stands for.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ["format_base32", "parse_base32", "short"]

_SHORT_LETTERS = 8


def format_base32(data: bytes) -> str:
    """Write `data` (any length) as unpadded upper-case Base32."""
    return base64.b32encode(data).rstrip(b"=").decode("ascii")


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


def short(reference: bytes) -> str:
    """Name a reference in messages and logs: its first eight letters."""
    return format_base32(reference[:5])[:_SHORT_LETTERS]

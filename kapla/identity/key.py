"""The name of a peer: its Ed25519 public key. Pure.

As text `ed25519:` and 43 letters of Base64url without padding, as in RFC 4648, section 5. There is
one text for each key: two texts that differ are two peers.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["PeerKey"]

_LENGTH: Final = 32
_PREFIX: Final = "ed25519:"
_TEXT: Final = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, order=True, slots=True)
class PeerKey:
    """A public key of 32 bytes, as in RFC 8032. It may be shown to everybody."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != _LENGTH:
            raise ValueError(f"an Ed25519 key has {_LENGTH} bytes")

    def __str__(self) -> str:
        return _PREFIX + urlsafe_b64encode(self.data).decode("ascii").rstrip("=")

    def __repr__(self) -> str:
        return f"PeerKey({str(self)!r})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ed25519:…`.

        Raises: ValueError, whose message does not repeat the text.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError("a key is ed25519: and 43 letters, as kaplad --print-key prints it")
        try:
            key = cls(urlsafe_b64decode(text.removeprefix(_PREFIX) + "="))
        except binascii.Error:
            raise ValueError("a key is ed25519: and 43 letters of Base64url") from None
        if str(key) != text:
            # Two bits of the last letter are no part of the key.
            raise ValueError("a key was altered: its last letter cannot be right")
        return key

"""What a store tells of a pin, and what one may be called: for stores and their clients. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eris.base32 import format_base32
from eris.model import BlockSize, Reference

__all__ = ["LONGEST_NAME", "PinSummary", "check_name", "default_name"]

LONGEST_NAME: Final = 255
"""Bytes of a pin's name in UTF-8."""


@dataclass(frozen=True, slots=True)
class PinSummary:
    """What is told of a pin to whom it belongs.

    `small` and `large` count the blocks that are there, `own_small` and `own_large` those that no
    other pin has. `owner` is a uid, `created` seconds since 1970.
    """

    name: str
    owner: int
    root: Reference | None
    keep: bool
    lend: bool
    created: int
    small: int
    large: int
    own_small: int
    own_large: int
    missing: int
    """References of which the store lacks the block."""

    @property
    def block_bytes(self) -> int:
        """The bytes of its blocks."""
        return self.small * BlockSize.SMALL + self.large * BlockSize.LARGE

    @property
    def own_block_bytes(self) -> int:
        """The bytes of the blocks that only this pin holds: what releasing it would make room."""
        return self.own_small * BlockSize.SMALL + self.own_large * BlockSize.LARGE


def default_name(root: Reference) -> str:
    """The name of a pin that was given none."""
    return format_base32(root)


def check_name(name: str) -> None:
    """See whether a pin can be called so.

    Raises: ValueError, with the reason.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("the name of a pin is UTF-8") from None
    if not 1 <= size <= LONGEST_NAME:
        raise ValueError(f"the name of a pin has 1 to {LONGEST_NAME} bytes, this one {size}")
    if any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in name):
        raise ValueError("the name of a pin has no control characters")

"""Sizes as the options of the stock server have them: `10M`, `20GiB`, `1.5GB`."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_size"]

_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([KMGTP]?)(IB|B)?")


def parse_size(text: str) -> int:
    """Read a size, in bytes: K and KiB are 1024, KB is 1000, and so on up to P.

    Raises: ValueError.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None or (match[4] == "IB" and not match[3]):
        raise ValueError(f"{text!r} is no size; one is as 1000000, 10M, 20GiB or 1.5GB")
    base = 1000 if match[3] and match[4] == "B" else 1024
    unit: int = base ** _POWERS[match[3]]
    fraction = match[2] or ""
    size: int = int(match[1]) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
    return size

"""Sizes and rates in settings: a number of bytes, or text as people write it.

10G, 10 GiB      2^30 bytes each; so K, M, T and P
10 GB            10^9 bytes each; so KB, MB, TB and PB
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "parse_amount",
    "parse_rate",
    "parse_scrub_rate",
    "parse_size",
    "parse_store_size",
    "size_text",
]

_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([KMGTP]?)(IB|B)?")
_SMALLEST_STORE: Final = 2**20
# A large block a second: a client with one under way hears something all the time.
_SLOWEST: Final = 32 * 2**10
_WANTED: Final = "is a number of bytes, or as in 10G, 10 GiB (2^30 each) or 10 GB (10^9)"


def parse_size(value: object) -> int:
    """Read a size in bytes, of a number or of text; a part of a byte does not count.

    Raises: ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    if found is None or (found[4] == "IB" and not found[3]):
        raise ValueError(f"a size {_WANTED}")
    base = 1000 if found[3] and found[4] == "B" else 1024
    unit: int = base ** _POWERS[found[3]]
    fraction = found[2] or ""
    # In whole numbers: of a large one a float would lose the end.
    size: int = int(found[1]) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
    return size


def parse_store_size(value: object) -> int:
    """Read how large a store may become.

    Raises: ValueError.
    """
    size = parse_amount(value)
    if size < _SMALLEST_STORE:
        raise ValueError("a store has at least 1 MiB")
    return size


def parse_amount(value: object) -> int:
    """Read a number of bytes that a database takes.

    Raises: ValueError.
    """
    size = parse_size(value)
    if not 0 <= size < 2**63:
        raise ValueError(f"a size {_WANTED}, and less than 8 EiB")
    return size


def parse_rate(value: object) -> int:
    """Read bytes a second: one who waits has to hear something now and then.

    Raises: ValueError.
    """
    rate = parse_size(value)
    if not _SLOWEST <= rate < 2**63:
        raise ValueError("a rate is 32 KiB a second or more, and less than 8 EiB")
    return rate


def parse_scrub_rate(value: object) -> int:
    """Read bytes a second, or 0 for none.

    Raises: ValueError.
    """
    rate = parse_size(value)
    if not 0 <= rate <= 2**40:
        raise ValueError("a rate is bytes a second, or as in 4 MiB, and 1 TiB at most")
    return rate


def size_text(count: int) -> str:
    """A number of bytes, for a sentence: `46.57 GiB`."""
    if count < 1024:
        return f"{count} B"
    size, power = count / 1024, 1
    while size >= 1024 and power < len(_POWERS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.4g} {[*_POWERS][power]}iB"

"""Sizes and rates in settings: a number of bytes, or text as in `10 GiB`."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_amount", "parse_rate", "parse_scrub_rate", "parse_size", "parse_store_size"]

_UNITS: Final = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SMALLEST_STORE: Final = 2**20
# A large block a second: a client with one under way hears something all the time.
_SLOWEST: Final = 32 * 2**10


def parse_size(value: object) -> int:
    """Read a size: a number of bytes, or text as `10 GiB` (B, KiB, MiB, GiB, TiB).

    Raises: ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif not isinstance(value, str):
        raise ValueError("a size is a number of bytes, or as in 10 GiB")
    else:
        match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", value.strip())
        if not match or match[2].upper() not in _UNITS:
            raise ValueError("a size is a number of bytes, or as in 10 GiB")
        size = int(float(match[1]) * _UNITS[match[2].upper()])
    return size


def parse_store_size(value: object) -> int:
    """Read how large a store may become.

    Raises: ValueError.
    """
    size = parse_size(value)
    if size < _SMALLEST_STORE:
        raise ValueError("a store has at least 1 MiB")
    return size


def parse_amount(value: object) -> int:
    """Read a number of bytes that a database takes.

    Raises: ValueError.
    """
    size = parse_size(value)
    if not 0 <= size < 2**63:
        raise ValueError("a size is a number of bytes, or as in 10 GiB")
    return size


def parse_rate(value: object) -> int:
    """Read bytes a second: one who waits has to hear something now and then.

    Raises: ValueError.
    """
    # As rates are written elsewhere: 10M.
    if isinstance(value, str) and re.fullmatch(r".*[0-9] ?[KMGTkmgt]", value.strip()):
        value = f"{value.strip()}iB"
    rate = parse_size(value)
    if rate < _SLOWEST:
        raise ValueError("a rate is 32 KiB a second or more")
    return rate


def parse_scrub_rate(value: object) -> int:
    """Read bytes a second, or 0 for none.

    Raises: ValueError.
    """
    rate = parse_size(value)
    if not 0 <= rate <= 2**40:
        raise ValueError("a rate is bytes a second, or as in 4 MiB")
    return rate

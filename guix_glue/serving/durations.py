"""Durations as the options of the stock server have them: `30d`, `1h`; **m is a month**."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["parse_duration"]

_UNITS: Final = {
    "s": 1,
    "h": 3600,
    "d": 86_400,
    "w": 7 * 86_400,
    "m": 30 * 86_400,
    "y": 365 * 86_400,
}
_LONGEST_S: Final = 100 * _UNITS["y"]


def parse_duration(text: str) -> int:
    """Read a duration, in seconds: a whole number and one of s, h, d, w, m (30 days), y.

    There are no minutes: `m` means months, as it does for the stock server.
    Raises: ValueError.
    """
    match = re.fullmatch(r"([0-9]{1,12})([shdwmy])", text)
    if match is None:
        raise ValueError(
            f"{text!r} is no duration; one is a number and a unit: s seconds, h hours, d days,"
            " w weeks, m months of 30 days, y years"
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is more than a hundred years")
    return seconds

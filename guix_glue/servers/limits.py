"""What the fetcher and a mirror grant to substitute servers: time, sizes, and to be remembered."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "ABSENCE_AGE_S",
    "CONNECT_TIMEOUT_S",
    "MAX_UNSIGNED_SIZE",
    "MIN_RATE",
    "NARINFO_AGE_S",
    "NAR_STALL_S",
    "max_age_s",
]

CONNECT_TIMEOUT_S: Final = 5.0
"""Until there is a connection: what the stock client grants."""

NAR_STALL_S: Final = 60.0
"""Until a server is given up that sends nothing of a nar: some compress while we wait."""

MIN_RATE: Final = 512
"""Bytes a second that come of a nar at least, on average over that time: half of what comes through
a line of 9600 baud."""

MAX_UNSIGNED_SIZE: Final = 16 * 1024**3
"""Bytes of a nar whose size nobody signed; the largest that official servers have are below."""

NARINFO_AGE_S: Final = 36 * 3600
"""How long a narinfo is good when a server does not say: as the stock client has it."""

ABSENCE_AGE_S: Final = 120
"""The same for what a server does not have."""

_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,12})(?:$|[,\s])")


def max_age_s(cache_control: str) -> int | None:
    """How long an answer is good by its header `Cache-Control`; None if that does not say."""
    stated = _MAX_AGE.search(cache_control)
    return None if stated is None else int(stated[1])

"""What a fetcher can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_SETTINGS", "FetchSettings"]


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How long to wait and how much to take."""

    eris_stall_s: float = 30.0
    """Until a store of blocks is given up that brings none."""
    nar_stall_s: float = 60.0
    """Until a server is given up that sends nothing of a nar: some compress while we wait."""
    min_rate: int = 512
    """Bytes a second that a store or server brings at least, on average over its time above.

    Half of what comes through a line of 9600 baud. 0 for any rate.
    """
    connect_s: float = 5.0
    max_unsigned_size: int = 16 * 1024**3
    """Bytes of a nar whose size nobody signed; the largest that official servers have are below."""
    trust_hints: bool = False


DEFAULT_SETTINGS: Final = FetchSettings()

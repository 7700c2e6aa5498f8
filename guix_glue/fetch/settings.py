"""What a fetcher can be told. The command line shows these defaults: importing them is cheap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from guix_glue.servers.limits import (
    CONNECT_TIMEOUT_S,
    MAX_UNSIGNED_SIZE,
    MIN_RATE,
    NAR_STALL_S,
)

__all__ = ["DEFAULT_SETTINGS", "DEFAULT_TIMEOUTS", "FetchSettings", "Timeouts"]


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How long to wait and how much to take."""

    eris_stall_s: float = 30.0
    """Until a store of blocks is given up that brings none."""
    nar_stall_s: float = NAR_STALL_S
    min_rate: int = MIN_RATE
    """Bytes a second that a store or server brings at least, on average over its time above.

    0 for any rate.
    """
    connect_s: float = CONNECT_TIMEOUT_S
    max_unsigned_size: int = MAX_UNSIGNED_SIZE
    trust_hints: bool = False


DEFAULT_SETTINGS: Final = FetchSettings()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds."""

    connect_s: float = CONNECT_TIMEOUT_S
    answer_s: float = 10.0
    """From one whole answer to the next."""
    total_s: float = 20.0
    """For all answers to one command together, and as much again for each 200 items."""


DEFAULT_TIMEOUTS: Final = Timeouts()

"""What a fetcher can be told. The command line shows these defaults: importing them is cheap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from guix_glue.servers.limits import (
    CONNECT_TIMEOUT_S,
    MAX_UNSIGNED_SIZE,
    MIN_RATE,
    NAR_STALL_S,
)

__all__ = ["DEFAULT_SETTINGS", "DEFAULT_TIMEOUTS", "FetchSettings", "Timeouts"]

# Servers of the local network are near, and anybody's: they have a fraction of the time that others
# have, and bring so many times as much in it.
_NEARBY_PATIENCE: Final = 1 / 5
_NEARBY_RATE: Final = 64


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

    def for_nearby(self) -> Self:
        """The same for servers that were found on the local network."""
        return replace(
            self,
            connect_s=self.connect_s * _NEARBY_PATIENCE,
            nar_stall_s=self.nar_stall_s * _NEARBY_PATIENCE,
            min_rate=self.min_rate * _NEARBY_RATE,
        )


DEFAULT_SETTINGS: Final = FetchSettings()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds."""

    connect_s: float = CONNECT_TIMEOUT_S
    answer_s: float = 10.0
    """From one whole answer to the next."""
    total_s: float = 20.0
    """For all answers to one command together, and as much again for each 200 items."""

    def for_nearby(self) -> Self:
        """The same for servers that were found on the local network."""
        return replace(
            self,
            connect_s=self.connect_s * _NEARBY_PATIENCE,
            answer_s=self.answer_s * _NEARBY_PATIENCE,
            total_s=self.total_s * _NEARBY_PATIENCE,
        )


DEFAULT_TIMEOUTS: Final = Timeouts()

"""What a publisher has baked since it was started, and of late.

Counted where things end for certain: a job when its worker is done with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

__all__ = ["RECENT", "Bakings", "DeltaOutcome", "DeltaTally"]

RECENT: Final = 16
"""Items that are told of, of those that were baked last."""

_LONGEST: Final = 200


@dataclass(slots=True)
class Baking:
    """An item that is, or was, worked on. `at`: when it ended, seconds since 1970."""

    item: str
    began: float = field(default_factory=time.monotonic)
    at: float = 0.0
    seconds: float = 0.0
    failure: str | None = "stopped"
    """Why there is nothing; None if all went well."""


class Bakings:
    """The jobs of a queue."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.under_way: list[Baking] = []
        self.recent: deque[Baking] = deque(maxlen=RECENT)

    @contextmanager
    def one(self, item: str) -> Iterator[Baking]:
        """While an item is worked on; whoever does sets `failure`."""
        baking = Baking(item[:_LONGEST])
        self.under_way.append(baking)
        try:
            yield baking
        finally:
            self.under_way.remove(baking)
            baking.at, baking.seconds = time.time(), time.monotonic() - baking.began
            if baking.failure is None:
                self.done += 1
            else:
                self.failed += 1
                baking.failure = baking.failure[:_LONGEST]
            self.recent.append(baking)


@dataclass(slots=True)
class DeltaOutcome:
    """What becomes of a delta; whoever works on it tells."""

    made: bool = False
    given_up: bool = False
    passed_over: bool = False
    """Whether its base was not there, as when that has left the cache."""
    block_bytes: int = 0

    def tell(self, block_bytes: int | None) -> None:
        """It is there, with so many bytes of blocks; None: it is given up."""
        self.made, self.given_up = block_bytes is not None, block_bytes is None
        self.block_bytes = block_bytes or 0


class DeltaTally:
    """Deltas that were tried; those that were put off count as failed."""

    def __init__(self) -> None:
        self.made = 0
        self.given_up = 0
        self.failed = 0
        self.block_bytes = 0

    @contextmanager
    def one(self) -> Iterator[DeltaOutcome]:
        """While a delta is worked on; whoever does tells the outcome."""
        outcome = DeltaOutcome()
        try:
            yield outcome
        finally:
            self.made += outcome.made
            self.given_up += outcome.given_up
            self.failed += not (outcome.made or outcome.given_up or outcome.passed_over)
            self.block_bytes += outcome.block_bytes

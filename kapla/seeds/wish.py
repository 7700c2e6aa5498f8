"""A block that seeds are asked for, as whoever wants it sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from eris.model import Reference

if TYPE_CHECKING:
    from kapla.seeds.seed import Seed

__all__ = ["Wish"]


class Wish(ABC):
    """One block, wanted by `asker`; `is_near`: whether that may cost a seed much.

    One of `got` and `nobody_has` is called once, unless it is given up before.
    """

    __slots__ = ("asker", "at", "is_late", "is_near", "is_over", "places", "reference", "tried")

    def __init__(self, reference: Reference, asker: object, *, is_near: bool) -> None:
        self.reference = reference
        self.asker = asker
        self.is_near = is_near
        self.at = 0.0
        """When it was wanted, by the loop's clock."""
        self.is_over = False
        """Whether seeds are not waited for any more."""
        self.is_late = False
        """Whether `late` was called."""
        self.tried: list[Seed] = []
        """The seeds that it was asked of, or that it waits for."""
        self.places: list[Seed] = []
        """Those of them that may still bring it."""

    @abstractmethod
    def got(self, block: bytes) -> None:
        """Here it is, compared with its reference."""

    @abstractmethod
    def nobody_has(self) -> None:
        """No seed brings it."""

    @abstractmethod
    def late(self) -> None:
        """It takes longer than it should: others may be asked beside. Called once at most."""

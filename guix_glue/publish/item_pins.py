"""What the publisher asks of a store's pins: a port, which its command line fills.

Each item that is baked has a pin of its own in the store, known here by the hash part of the item,
and so has each of its deltas, known by `delta_key`. They are kept for as long as the cache promises
the item, and lent. The map of all of them has one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from eris.model import Reference
from eris.store import BlockFinder, BlockWriter

__all__ = ["MAP_KEY", "ItemPins", "OpenedPin", "PinnedItem", "PinningStore"]

MAP_KEY: Final = "map"
"""The key of the map's pin: no hash part."""


class PinningStore(BlockWriter, BlockFinder, Protocol):
    """A store whose answers about blocks count for whoever puts some."""


@dataclass(frozen=True, slots=True)
class PinnedItem:
    """A pin that is there: of which content, how old in seconds, and how many blocks it lacks."""

    key: str
    root: Reference | None
    age_s: float
    missing: int


class OpenedPin(Protocol):
    """A pin that is being filled. What is put into its store is in it."""

    @property
    def store(self) -> PinningStore:
        """Where the blocks go."""

    async def want(self, references: Sequence[Reference]) -> list[bool]:
        """Have blocks in it that may be in the store; tells which are. Raises: StoreError."""

    async def keep(self, key: str, root: Reference) -> None:
        """Close it, as that of an item, a delta or the map, in the place of the one before.

        Raises: StoreError.
        """


class ItemPins(Protocol):
    """The pins of one publisher in one store."""

    def opened(self) -> AbstractAsyncContextManager[OpenedPin]:
        """A new pin, given up unless it is kept; in a store without pins one that holds nothing.

        Raises: StoreError.
        """

    async def items(self) -> Sequence[PinnedItem] | None:
        """All there are; None for a store without pins. Raises: StoreError."""

    async def release(self, key: str) -> None:
        """Let a pin go, if there is one. Raises: StoreError."""

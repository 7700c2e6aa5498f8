"""What comes with a transaction, and what became of it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from eris.model import BlockSize, Reference
from kapla.storage.port import PartlyKept, PutResult
from kapla.storage.sqlite.damage import DamagedStore
from kapla.storage.sqlite.schema import prefix_of

__all__ = ["Coming", "PartlyDamaged", "PutResult"]


class PartlyDamaged(PartlyKept, DamagedStore):
    """Damage is in the way of some blocks; the others are kept, or refused for want of room."""


class Coming(NamedTuple):
    """The new blocks of a transaction, in order, and the places that led to what they replace."""

    blocks: list[tuple[Reference, bytes]]
    refused: frozenset[Reference]
    bad_places: list[tuple[int, int]]
    known: dict[Reference, int]
    """The ids of those that were there."""

    def replaces(self, reference: Reference) -> bool:
        """Whether a new block takes the place of a damaged one, which was counted already."""
        return prefix_of(reference) in {prefix for prefix, _ in self.bad_places}

    def replacements(self, new: dict[Reference, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """The new blocks, as (id, size), by the ids of the damaged ones that they replace."""
        places = {prefix_of(reference): place for reference, place in new.items()}
        return {block_id: places[prefix] for prefix, block_id in self.bad_places}

    def counts(self) -> dict[int, int]:
        """How many there are more of each size."""
        blocks = self.blocks
        if self.bad_places:
            blocks = [item for item in blocks if not self.replaces(item[0])]
        found = Counter(len(block) for _, block in blocks)
        return {int(size): found[size] for size in BlockSize if found[size]}

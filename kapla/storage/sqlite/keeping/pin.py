"""A pin as a SQLite store has it: two sets of ids."""

from __future__ import annotations

from dataclasses import dataclass, field

from eris.model import BlockSize, Reference
from kapla.storage.pins import Sizes
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Pin"]


@dataclass(slots=True)
class Pin:
    """A named set of blocks, `small` and `large` ones.

    `sums`: of a pin over all that there was, whose sizes are known in sum only. The ids that it
    began with all stand in `small`, and there may be some among them that lead to nothing.
    """

    id: int
    owner: int
    name: str
    root: Reference | None
    keep: bool
    lend: bool
    created: int
    small: Ids = field(default_factory=Ids)
    large: Ids = field(default_factory=Ids)
    sums: Sizes | None = None
    is_counted: bool = True
    """Whether `sums` is known: the totals may have been damaged when the pin was made."""

    @property
    def ids(self) -> Ids:
        """Of all its blocks."""
        return self.small | self.large

    @property
    def sizes(self) -> Sizes:
        """How many blocks it has."""
        return self.sums or Sizes(len(self.small), len(self.large))

    def take(self, arrived: list[tuple[int, int]]) -> None:
        """These are in it too: (id, size of the block)."""
        self.small.add(block_id for block_id, size in arrived if size != BlockSize.LARGE)
        self.large.add(block_id for block_id, size in arrived if size == BlockSize.LARGE)

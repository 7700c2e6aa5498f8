"""A pin as the store has it, and as it is told of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eris.base32 import format_base32
from eris.errors import StoreFull
from eris.model import BlockSize, Reference
from kapla.sizes import size_text
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Pin", "PinSummary", "Sizes", "name_of_root", "no_room"]


class Sizes(NamedTuple):
    """How many blocks of each size."""

    small: int = 0
    large: int = 0

    @property
    def bytes(self) -> int:
        """What the blocks have together."""
        return self.small * BlockSize.SMALL + self.large * BlockSize.LARGE


@dataclass(frozen=True, slots=True)
class PinSummary:
    """What may be told of a pin to whom it belongs.

    `small` and `large` count the blocks that are there, `own_small` and `own_large` those that no
    other pin has, `missing` those that it lacks. `owner` is a uid, `created` seconds since 1970.
    """

    name: str
    owner: int
    root: Reference | None
    keep: bool
    lend: bool
    created: int
    small: int
    large: int
    own_small: int
    own_large: int
    missing: int


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


def name_of_root(root: Reference) -> str:
    """What a pin is called that was given no name."""
    return format_base32(root)


def no_room(pinned: int, quota: int) -> StoreFull:
    """The error of who pins more than is allowed."""
    return StoreFull(
        f"your pins hold {size_text(pinned)} of the {size_text(quota)} that one user may pin"
        " (max-pinned-bytes): release some of them"
    )

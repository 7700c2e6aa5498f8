"""What the parts of the publisher hand to each other: how items are offered, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from eris.errors import StoreError
from eris.store import BlockWriter
from eris_fs import KnownContents
from guix_glue.formats.compression import CompressionChoice
from guix_glue.kept.records import Destination
from guix_glue.publish.item_pins import ItemPins, PinningStore
from guix_glue.publish.tree_formats import TreeFormat

__all__ = ["UNBAKED_AGE_S", "ErisTarget", "PublishOptions"]


UNBAKED_AGE_S: Final = 300
"""How long clients may keep the narinfo of an item that is being baked: as the stock server."""

_UNTOLD_AGE_S: Final = 36 * 3600
"""How long the stock client keeps a narinfo if it is not told."""
_NIX_AGE_S: Final = 30 * 86_400
"""How long Nix does, whatever it is told."""


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How items are offered. Times in seconds; None leaves Cache-Control out."""

    store_dir: str
    compressions: tuple[CompressionChoice, ...]
    nar_path: tuple[str, ...] = ("nar",)
    """The components of the path below which nars are."""
    ttl_s: int | None = None
    negative_ttl_s: int | None = None
    mass_query: bool = False
    """What /nix-cache-info says of `WantMassQuery`: that asking for many items at once is fine."""
    for_nix: bool = False
    """Whether narinfos are for Nix: signed for it, or of its store."""
    priority: int = 100
    """What /nix-cache-info says of `Priority`: Nix asks servers with a lower one first."""

    deltas: int = 0
    """How many deltas a narinfo names, at most; they need a store of blocks, and packed trees."""

    bypass_below: int | None = None
    """An item whose nar has as many bytes or more is only offered once it is baked; None: none."""

    @property
    def unbaked_age_s(self) -> int:
        """How long a reply is good that baking, or a store that answers again, will change."""
        return UNBAKED_AGE_S if self.ttl_s is None else min(UNBAKED_AGE_S, self.ttl_s)

    @property
    def promise_s(self) -> int:
        """How long clients may ask for what a narinfo names that is complete."""
        age_s = _UNTOLD_AGE_S if self.ttl_s is None else self.ttl_s
        return max(age_s, _NIX_AGE_S) if self.for_nix else age_s


@dataclass(frozen=True, slots=True)
class ErisTarget:
    """Where items go, and as trees of which format.

    `store_id` tells one store from another without telling its URL; None for a store that keeps
    nothing, when only URNs are wanted. With `pins` items go where these are, and not to `store`.
    `known` gives what spares encoding again into the store that it is given, anew for each item, or
    None; it must be for this format. `explain` says in a few words what a store does that fails,
    without its URL; None if that cannot be told.
    """

    store: BlockWriter = field(repr=False)
    store_id: str | None
    trees: TreeFormat
    known: Callable[[PinningStore], KnownContents | None] = lambda store: None
    pins: ItemPins | None = None
    explain: Callable[[StoreError], str | None] = lambda error: None

    @property
    def destination(self) -> Destination:
        """The same in the words of records."""
        return Destination(self.trees.name, self.store_id)

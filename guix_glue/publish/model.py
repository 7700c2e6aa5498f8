"""What the parts of the publisher hand to each other: options, requests, replies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from eris.errors import StoreError
from eris.store import BlockWriter
from eris_fs import KnownContents
from guix_glue.formats.compression import CompressionChoice
from guix_glue.publish.item_pins import ItemPins, PinningStore
from guix_glue.publish.records import Destination
from guix_glue.publish.tree_formats import TreeFormat

__all__ = [
    "NARINFO_TYPE",
    "NAR_TYPE",
    "OCTETS_TYPE",
    "TEXT_TYPE",
    "UNBAKED_AGE_S",
    "Body",
    "ErisTarget",
    "FetchedBody",
    "FileBody",
    "PublishOptions",
    "Reply",
    "Request",
    "StreamBody",
]

TEXT_TYPE: Final = "text/plain;charset=utf-8"
OCTETS_TYPE: Final = "application/octet-stream;charset=ISO-8859-1"
NARINFO_TYPE: Final = "application/x-nix-narinfo;charset=utf-8"
NAR_TYPE: Final = "application/x-nix-archive;charset=ISO-8859-1"

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
    """Whether narinfos are signed for Nix."""

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


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as far as it matters: `path` as it was sent, without the query.

    The rest are headers, where there is one of the name.
    """

    method: str
    path: str
    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class FileBody:
    """`size` bytes of an open file from `offset` on; whoever sends it closes the file."""

    file: BinaryIO
    size: int
    offset: int = 0

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class StreamBody:
    """Pieces that are made while they are sent, `size` bytes together, by a worker thread.

    `open` starts anew; whoever takes the iterator closes it.
    """

    open: Callable[[], Generator[bytes, None, None]]
    size: int

    def close(self) -> None:
        """Nothing is open yet."""


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """Pieces that come from somewhere else, `size` bytes together.

    `open` starts anew; whoever takes the iterator closes it. `leave` is called once, at the end.
    """

    open: Callable[[], AsyncGenerator[bytes, None]]
    size: int
    leave: Callable[[], None]

    def close(self) -> None:
        """It is not waited for any longer."""
        self.leave()


Body = bytes | FileBody | StreamBody | FetchedBody


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `max_age_s` is for Cache-Control; None leaves it out.

    `tag` names the bytes of the body, and no other bytes ever have it: the strong validator of
    HTTP, without its quotes. A file that has one can be asked for in parts.
    """

    status: int
    content_type: str
    body: Body
    max_age_s: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    tag: str | None = None

    @property
    def size(self) -> int:
        """The bytes of the body: the value of Content-Length."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    def close(self) -> None:
        """Let go of a body that is not sent."""
        if not isinstance(self.body, bytes):
            self.body.close()

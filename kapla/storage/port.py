"""What a backend is: what keeps blocks, and pins, behind `kapla.storage.batching`.

A backend is opened once. Each of its sessions belongs to one thread, which opens it, works with it
in batches, and closes it. What an argument does not say holds for all: blocks have 1024 or 32768
bytes, references are those of their blocks, and errors are `eris.errors.ErisError`, or one of
`Backend.failures`, which the front turns into StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from eris.errors import StoreFull, StoreUnavailable
from eris.model import Reference
from kapla.pins import PinSummary
from kapla.storage.pins import Closing, Hold, PinChoice

__all__ = [
    "BEFORE_ALL",
    "Backend",
    "Kept",
    "Listing",
    "Look",
    "Looker",
    "Page",
    "PartlyKept",
    "PinWriter",
    "Promise",
    "PutResult",
    "Reader",
    "StoreSettings",
    "Writer",
]

BEFORE_ALL: Final = -(2**63)
"""No place of a block is lower."""


class PutResult(NamedTuple):
    """How many blocks were new and are kept, and which were refused for want of room."""

    added: int
    refused: frozenset[Reference]


class PartlyKept(StoreUnavailable):
    """Some blocks could not be kept; the others are, or were refused for want of room."""

    def __init__(self, result: PutResult, failed: dict[Reference, StoreUnavailable]) -> None:
        super().__init__(str(next(iter(failed.values()))))
        self.result = result
        self.failed = failed


class Promise:
    """What is to become of the blocks of one PUT once they are there: held, or lent.

    `hold`: of the open pin that they belong to; None: they may be lent while they are there.
    `blocks` have these references, in the same order.
    """

    __slots__ = ("blocks", "error", "hold", "references")

    def __init__(
        self, hold: Hold | None, references: Sequence[Reference], blocks: Sequence[bytes]
    ) -> None:
        self.blocks = blocks
        self.error: StoreFull | None = None
        """Its owner may not pin that much: then they may be there, and are not held."""
        self.hold = hold
        self.references = references


class Kept(NamedTuple):
    """How many blocks all pins have, how many of these must not go, and how many may be lent."""

    pinned: int
    kept: int
    lent: int


class Page(NamedTuple):
    """Some references, perhaps none, and where to go on; None is the end, without references."""

    references: list[Reference]
    following: int | None


class Listing(Protocol):
    """The list of what a store has."""

    async def page(self, start: int) -> Page:
        """Read the page that begins at a place: 0, or where another page says to go on.

        A place has 64 bits, and those of a page are greater than those of the page before it.
        Raises: StoreUnavailable.
        """


class Look(Protocol):
    """What some blocks were like. `last`: where the last one is; None: there are no more."""

    last: int | None
    blocks: int
    bytes: int

    @property
    def suspects(self) -> Sequence[object]:
        """Blocks that are not what their references say, as the writer's `drop_bad` takes them."""


class Looker(Protocol):
    """Reads and hashes blocks in the order of their places, for one thread at a time."""

    def look(self, after: int, size: int) -> Look:
        """Look at the blocks that follow a place, until that is so many bytes or a little more."""

    def close(self) -> None:
        """End the session."""


class Reader(Protocol):
    """A session that reads.

    What is damaged beyond reading counts as not there. What is not lent must not be told from what
    is not there, by whoever asks for what is lent, not even by how long that takes.
    """

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there."""

    def get_lent(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there and lent."""

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which blocks are there."""

    def find_lent(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which blocks are there and lent."""

    def hold_found(self, references: Sequence[Reference], hold: Hold) -> set[Reference]:
        """Tell which blocks are there; from now on they are held.

        Raises: StoreFull, if that is more than its owner may pin.
        """

    def database_bytes(self) -> int:
        """What the store takes of the disk, without what is free to be used again."""

    def close(self) -> None:
        """End the session."""


class PinWriter(Protocol):
    """The pins of a store. Each change is durable when it returns."""

    def begin(self, owner: int, wants: int | None, token: bytes) -> tuple[int, Hold, int]:
        """Open a pin: its number, what it holds, and the bytes of content there is room for.

        `token`: by which its owner goes on with it; it is a secret of his.
        Raises: StoreFull, if that is less than `wants`.
        """

    def attach(self, owner: int, token: bytes) -> tuple[int, Hold, int]:
        """Go on with an open pin: as `begin`; the hold is the same one where it was opened here.

        Where several processes have the store open, whoever had it before has it no more.
        Raises: PinNotFound, if there is none with this token, or it is somebody else's.
        """

    def close(self, number: int, hold: Hold, closing: Closing, most: int) -> PinSummary:
        """Make a pin of what was held; then it is held no more. `most`: pins that one may have.

        One of the same owner and name is replaced.
        Raises: PinIncomplete, StoreFull, RequestMalformed; then nothing is changed.
        """

    def abandon(self, number: int, hold: Hold, *, lend: bool = False) -> int:
        """Nothing of this is held any more; with `lend` it is lent while it is there.

        Returns how many blocks are lent so: none, if that is switched off.
        """

    def page(
        self, owner: int | None, after: tuple[int, str], most: int
    ) -> tuple[list[PinSummary], bool]:
        """Some pins in the order of owner and name, of one owner or of all, and if there are more.

        `after`: the owner and the name that they are behind.
        """

    def count(self) -> int:
        """How many there are, of all owners."""

    def contents(self, owner: int, name: str, start: int) -> Page:
        """Some references of a pin, also of blocks that it lacks, once each; 0 is the beginning.

        A place is of this pin, and may have more than 64 bits. Raises: PinNotFound.
        """

    def change(self, choice: PinChoice, *, lend: bool | None, keep: bool | None) -> PinSummary:
        """Set switches; tells of the last pin. Raises: PinNotFound."""

    def release(self, choice: PinChoice) -> PinSummary:
        """Remove pins; tells what the last one was. Raises: PinNotFound."""


class Writer(Protocol):
    """A session that writes."""

    @property
    def pins(self) -> PinWriter:
        """The pins."""

    def put_many(
        self, blocks: dict[Reference, bytes], promises: Sequence[Promise] = ()
    ) -> PutResult:
        """Keep blocks, all or none but for PartlyKept; durable when it returns.

        What was promised of them holds then, or the promise has an error.
        """

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> set[Reference]:
        """Hold what is there of these; an open pin lacks the others. Returns what is there.

        Raises: StoreFull.
        """

    def why_full(self) -> str:
        """What stands in the way of a block that was refused, and what can be done."""

    def settle(self, settings: StoreSettings) -> None:
        """Let other settings hold from now on; after an error nothing has changed."""

    def drop_bad(self, suspects: Sequence[object]) -> int:
        """Drop those of a Look's suspects that are bad; returns how many are."""

    def scrub_place(self) -> tuple[int | None, int | None]:
        """Where the look at all blocks is that goes on in the background, and when it began.

        None: nowhere, as it has come to its end; or it never began.
        """

    def note_scrub(self, after: int | None, began: int | None) -> None:
        """Remember that."""

    def chore(self, *, is_idle: bool) -> float | None:
        """Do a little of what there is to do between the rounds.

        Returns after how many seconds it should be called again if nothing else comes; None: when
        there was something.
        """

    def close(self) -> None:
        """Write what was put off, and end the session."""


class StoreSettings(Protocol):
    """How a store is opened; of a type for each backend."""

    @property
    def scrub_rate(self) -> int:
        """Bytes a second that are read and hashed in the background; 0: none."""

    @property
    def pinned_quota(self) -> int | None:
        """Bytes that the pins of one user may hold together, or None: any number."""

    def __str__(self) -> str:
        """Which store it is, for people; without a password."""


class Backend(Protocol):
    """An open store."""

    failures: tuple[type[Exception], ...]
    """What its sessions raise besides ErisError."""

    readers: int
    """How many threads are to read blocks."""

    writers: int
    """How many threads are to write them; the pins are the first one's."""

    def reader(self) -> Reader:
        """Begin a session for this thread. Raises: StorageError."""

    def writer(self) -> Writer:
        """Begin a session for this thread. Raises: StorageError."""

    def looker(self) -> Looker:
        """Begin a session for one thread at a time."""

    def listing(self) -> Listing:
        """The list of what it has."""

    def totals(self) -> dict[int, int]:
        """How many blocks of each size there are; from any thread, at once.

        Raises: StoreUnavailable, while they are not known.
        """

    def kept(self) -> Kept:
        """What is pinned and lent; from any thread, at once."""

    @property
    def evicted_blocks(self) -> int:
        """How many made room for others since the start."""

    @property
    def path(self) -> Path | None:
        """The file that others may read; None: it is in none."""

    @property
    def is_writer_wanted(self) -> bool:
        """Whether a reader found something for the first writer to see to."""

    def close(self) -> None:
        """End what the sessions shared, when all of them are closed."""

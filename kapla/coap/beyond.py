"""What is not stored, and how it is asked of others: the port, and how far a request may go.

A request that others are asked for carries a Hop-Limit. Whoever begins sends the full value;
whoever passes a request on sends one less, and at 1 it ends. So a request does not go round in
circles, and never back to the one who asked.

Source: RFC 8768 (Hop-Limit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from eris.errors import ErisError, StoreUnavailable
from eris.model import Reference

__all__ = [
    "FULL_HOPS",
    "HERE",
    "SEEDS",
    "Beyond",
    "Found",
    "FoundDone",
    "Leaving",
    "Reach",
    "cost_of_seeds_s",
    "hops_left",
]

FULL_HOPS: Final = 4
"""The Hop-Limit of a request that begins here. It tells those who are asked that it does."""


HERE: Final = "here"
"""The source of a block that others gave a moment ago, and that is still being kept."""

SEEDS: Final = "seeds of this machine"
"""The source of a block that was made again from files here."""

# What it takes to ask a seed, to read its answer, and to compare a block with its reference.
_A_BLOCK_TAKES_S: Final = 40e-6
_A_KIB_TAKES_S: Final = 2e-6


class Found(NamedTuple):
    """A block that somebody else had; it has been compared with its reference."""

    block: bytes
    is_lent: bool
    """Whether it may be given on."""
    source: str
    """Who had it, for people."""


class Leaving(StoreUnavailable):
    """Others had not answered when this daemon stopped. That is said by the connection's end.

    Whoever asked then asks again, here or elsewhere; an answer would be the last word.
    """

    def __init__(self) -> None:
        super().__init__("this daemon is stopping")


FoundDone = Callable[[Found | ErisError], None]
"""Called once on the event loop: the block, BlockNotFound if nobody has it, or why not."""


class Beyond(Protocol):
    """Others who may have what is not here. `asker`: on whose behalf, any object.

    A peer is an asker too: it is not asked for what it asks for itself.
    """

    def fetch(self, reference: Reference, hops: int, asker: object, done: FoundDone, /) -> None:
        """Get a block; `hops`: the Hop-Limit that others are sent, 1 or more.

        `done` is called for certain, at the latest when the asker leaves; maybe at once.
        """
        ...

    async def find(
        self, references: Sequence[Reference], hops: int, asker: object, /
    ) -> list[bool]:
        """Tell which blocks somebody has."""
        ...

    def leave(self, asker: object, /) -> None:
        """This one waits for nothing any more."""
        ...


class Reach(Beyond, Protocol):
    """Whoever may be asked, near or far: `hops` may be 0, and then only seeds are."""

    def reaches(self, hops: int, /) -> bool:
        """Whether there is anybody to ask, so far away at most."""
        ...


def hops_left(received: int | None, *, begins: bool) -> int:
    """The Hop-Limit for those who are asked; 0: nobody may be.

    `received`: that of the request; `begins`: whether one without any begins here, since it comes
    from a program of this machine.
    """
    if received is None:
        return FULL_HOPS if begins else FULL_HOPS - 1
    return received - 1


def cost_of_seeds_s(blocks: int, block_bytes: int) -> float:
    """What blocks of seeds take of the event loop outside of the turn of whoever asked."""
    return _A_BLOCK_TAKES_S * blocks + _A_KIB_TAKES_S * (block_bytes >> 10)

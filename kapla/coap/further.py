"""What is not here, for one connection: asked of others, if whoever is there may cause that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from eris.errors import ErisError
from eris.model import Reference
from kapla.coap.answers import answer_to_get, answers_to_gets
from kapla.coap.beyond import (
    SEEDS,
    Found,
    FoundDone,
    Leaving,
    Reach,
    cost_of_seeds_s,
    hops_left,
)
from kapla.coap.origin import Origins
from kapla.coap.under_way import UnderWay
from kapla.storage.worker import answered

__all__ = ["Further", "Gets"]


class Gets(NamedTuple):
    """GETs of blocks that were handed on together."""

    references: Sequence[Reference]
    tokens: Sequence[bytes]
    hops: Mapping[int, int]
    """The Hop-Limit of those that have one, by their place."""
    weight: int
    """Of all together, in KiB."""


class Further:
    """Asks others on behalf of one connection; `begins`: see `hops_left`.

    `goes_on`: whether peers may be asked; seeds are on behalf of everybody. `asker`: who that is,
    for those who are asked. `answer` is called with each answer as it comes, and the bytes of the
    block in it, or 0; it may be none. `owes` is told what a seed's block has cost the event loop
    outside of the turn of whoever asked, in seconds; `origins` whose blocks they are.
    """

    def __init__(
        self,
        beyond: Reach,
        asker: object,
        under_way: UnderWay,
        answer: Callable[[bytes, int], None],
        owes: Callable[[float], None],
        origins: Origins,
        *,
        begins: bool,
        goes_on: bool,
    ) -> None:
        self._beyond = beyond
        self._asker = asker
        self._under_way = under_way
        self._answer = answer
        self._owes = owes
        self._origins = origins
        self._begins = begins
        self._goes_on = goes_on
        self._has_left = False

    def answers(
        self, gets: Gets, blocks: Sequence[bytes | None], are_lent: Sequence[bool]
    ) -> list[bytes]:
        """What is answered at once; others are asked for what is missing and may be asked for."""
        now = [
            place
            for place, block in enumerate(blocks)
            if block is not None or not self._ask_for(gets, place)
        ]
        return answers_to_gets(
            [gets.tokens[place] for place in now],
            [blocks[place] for place in now],
            [are_lent[place] for place in now] if are_lent else (),
        )

    def _ask_for(self, gets: Gets, place: int) -> bool:
        hops = self.hops(gets.hops.get(place))
        if self.may_ask(hops):
            weight = gets.weight // len(gets.tokens)
            is_marked = place in gets.hops
            self._ask(gets.references[place], gets.tokens[place], hops, weight, is_marked)
            return True
        return False

    def _ask(
        self, reference: Reference, token: bytes, hops: int, weight: int, is_marked: bool
    ) -> None:
        def start(done: FoundDone) -> None:
            self._beyond.fetch(reference, hops, self._asker, done)

        def answer(result: Found | ErisError) -> None:
            if isinstance(result, Leaving):
                self._answer(b"", 0)
                return
            size = 0
            if isinstance(result, Found):
                size = len(result.block)
                self._came(result)
            self._answer(answer_to_get(token, result, is_marked=is_marked), size)

        self._under_way.hand_on(1, weight, start, answer)

    def hops(self, received: int | None) -> int:
        """The Hop-Limit for peers that are asked; 0: none may be."""
        return hops_left(received, begins=self._begins) if self._goes_on else 0

    def may_ask(self, hops: int) -> bool:
        """Whether there is anybody to ask, so far away at most.

        Not on behalf of who has left, whose last requests the store may answer afterwards: nobody
        would tell the others that it has.
        """
        return not self._has_left and self._beyond.reaches(hops)

    async def fetch(self, reference: Reference, hops: int) -> Found:
        """Ask for one block. Raises: BlockNotFound, StoreUnavailable."""
        found: Found = await answered(
            lambda done, _: self._beyond.fetch(reference, hops, self._asker, done)
        )
        self._came(found)
        return found

    def _came(self, found: Found) -> None:
        size = len(found.block)
        self._origins.came(found.source, size)
        if found.source == SEEDS:
            self._owes(cost_of_seeds_s(1, size))

    async def find(self, references: Sequence[Reference], hops: int) -> list[bool]:
        """Ask which blocks somebody has."""
        return await self._beyond.find(references, hops, self._asker)

    def leave(self) -> None:
        """The connection has ended."""
        self._has_left = True
        self._beyond.leave(self._asker)

"""What is not here: seeds first, then whoever else may be asked.

Seeds are on this machine, so whether a request may go further does not count for them. What none of
them has is asked of others as if there were no seeds; what a seed takes long for, beside, and then
the first who has it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eris.errors import BlockNotFound, ErisError, StoreUnavailable
from eris.model import Reference
from kapla.coap.beyond import SEEDS, Beyond, Found, FoundDone, Leaving
from kapla.seeds.seeds import Seeds
from kapla.seeds.wish import Wish

__all__ = ["SeedsFirst"]


class _Asker:
    """One who asks, and what it waits for."""

    __slots__ = ("has_gone_on", "is_near", "races")

    def __init__(self, *, is_near: bool) -> None:
        self.is_near = is_near
        self.has_gone_on = False
        """Whether others than seeds were asked, who are to be told when it leaves."""
        self.races: set[_Race] = set()


class SeedsFirst:
    """`Reach` of kapla.coap. `others` may be none; `is_near`: whose wishes may cost seeds much."""

    def __init__(
        self, seeds: Seeds, others: Beyond | None, is_near: Callable[[object], bool]
    ) -> None:
        self._seeds = seeds
        self._others = others
        self._is_near = is_near
        self._askers: dict[object, _Asker] = {}
        self._is_stopping = False

    def reaches(self, hops: int) -> bool:
        """Whether there is anybody to ask: see `Reach`."""
        return bool(self._seeds) or self.may_ask_others(hops)

    def fetch(self, reference: Reference, hops: int, asker: object, done: FoundDone) -> None:
        """Get a block: see `Reach`."""
        mine = self._asker(asker)
        if not self._seeds and self.may_ask_others(hops):
            self.ask_others(reference, hops, asker, mine, done)
            return
        race = _Race(self, reference, hops, asker, done, mine)
        mine.races.add(race)
        self._seeds.fetch(race)

    async def find(self, references: Sequence[Reference], hops: int, asker: object) -> list[bool]:
        """Tell which blocks somebody has: see `Reach`."""
        present: list[bool | None] = [False] * len(references)
        if self._seeds:
            is_near = self._is_near(asker)
            present = await self._seeds.find(references, asker, is_near=is_near)
        missing = [name for name, is_there in zip(references, present, strict=True) if not is_there]
        if hops and missing and self._others is not None:
            found = iter(await self._others.find(missing, hops, asker))
            present = [is_there or next(found) or is_there for is_there in present]
        if None in present:
            # A peer takes a no for an answer, and would not ask for the block itself.
            raise StoreUnavailable("not all seeds have said what they can make")
        return [bool(is_there) for is_there in present]

    def leave(self, asker: object) -> None:
        """This one waits for nothing any more."""
        mine = self._askers.pop(asker, None)
        if mine is None:
            return
        for race in list(mine.races):
            race.end(StoreUnavailable("whoever asked has gone"))
        self._seeds.leave(asker)
        if mine.has_gone_on and self._others is not None:
            self._others.leave(asker)

    def stop(self) -> None:
        """The daemon is about to stop: what nobody brings from now on may be had elsewhere."""
        self._is_stopping = True

    # what a race needs

    def may_ask_others(self, hops: int) -> bool:
        """Whether anybody else can be asked."""
        return hops > 0 and self._others is not None

    def ask_others(
        self, reference: Reference, hops: int, asker: object, mine: _Asker, done: FoundDone
    ) -> None:
        """As if there were no seeds."""
        if hops and self._others is not None:
            mine.has_gone_on = True
            self._others.fetch(reference, hops, asker, done)
        else:
            # As we stop, a seed may have been sent away before it answered.
            done(Leaving() if self._is_stopping else BlockNotFound(reference))

    def forget(self, wish: Wish) -> None:
        """Seeds are not waited for any more."""
        self._seeds.forget(wish)

    def _asker(self, asker: object) -> _Asker:
        found = self._askers.get(asker)
        if found is None:
            found = self._askers[asker] = _Asker(is_near=self._is_near(asker))
        return found


class _Race(Wish):
    """One block, from a seed or from others; `done` is called once."""

    __slots__ = ("_done", "_error", "_has_ended", "_hops", "_mine", "_others_asked", "_way")

    def __init__(
        self,
        way: SeedsFirst,
        reference: Reference,
        hops: int,
        asker: object,
        done: FoundDone,
        mine: _Asker,
    ) -> None:
        super().__init__(reference, asker, is_near=mine.is_near)
        self._way = way
        self._hops = hops
        self._done = done
        self._mine = mine
        self._others_asked = False
        self._error: ErisError | None = None
        """What others said; until then they are waited for."""
        self._has_ended = False

    def got(self, block: bytes) -> None:
        self.end(Found(block, True, SEEDS))

    def nobody_has(self) -> None:
        if not self._others_asked:
            self._ask_others()
        elif self._error is not None:
            self.end(self._error)

    def late(self) -> None:
        if self._way.may_ask_others(self._hops):
            self._ask_others()

    def _ask_others(self) -> None:
        self._others_asked = True
        self._way.ask_others(self.reference, self._hops, self.asker, self._mine, self._others_said)

    def _others_said(self, result: Found | ErisError) -> None:
        if self.is_over or isinstance(result, Found | Leaving):
            self.end(result)
        else:
            # A seed may still bring it.
            self._error = result

    def end(self, result: Found | ErisError) -> None:
        """Answer, if that was not done."""
        if self._has_ended:
            return
        self._has_ended = True
        self._mine.races.discard(self)
        self._way.forget(self)
        self._done(result)

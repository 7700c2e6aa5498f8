"""Whether there is room for what comes, and having some made.

Room begins to be made a little before it is needed, a step with each round of PUTs. Only where that
was too slow does a round wait for it.
"""

from __future__ import annotations

import time
from typing import Final

from eris.errors import StoreUnavailable
from kapla.storage.postgresql.eviction import Evictor, Step
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.session import Session

__all__ = ["Room"]

_WAIT_S: Final = 60.0
_PAUSE_S: Final = 0.02
# Where all must stay, it is looked again only after this: it takes some queries.
_NOTHING_S: Final = 5.0
# The part of a generation that is kept free.
_AHEAD: Final = 4


class Room:
    """For one session that writes."""

    def __init__(self, session: Session, front: Front) -> None:
        self._session, self._front = session, front
        self.evictor = Evictor(session, front)
        self._look_again = 0.0

    def make(self, needed: int) -> int | None:
        """Make room for so many bytes; returns how many there are, or None: any number.

        Raises: StoreUnavailable, also if that takes too long.
        """
        settings, front = self._front.settings, self._front
        if settings.max_size is None:
            return None
        ahead = settings.generation_size(front.stored) // _AHEAD if settings.evicts else 0
        if front.stored + needed + ahead <= settings.max_size:
            return needed
        # It is reckoned, and may be wrong.
        front.measure(self._session)
        if settings.evicts and front.stored + needed + ahead > settings.max_size:
            self._evict(needed, ahead)
        return settings.max_size - front.stored

    def chore(self) -> bool:
        """Go on with what is under way; returns whether there is more of it now."""
        if not self.evictor.is_under_way() and not self._is_too_large():
            return False
        return self._step(0) in (Step.MORE, Step.DONE)

    def why_full(self) -> str:
        """What stands in the way of a block that found no room."""
        if self._front.settings.evicts:
            return "the store is full, and all of it is pinned: release a pin, or raise max-size"
        return "the store is full: it has reached max-size"

    def _evict(self, needed: int, ahead: int) -> None:
        """One step, or as many as it takes for those bytes."""
        end = time.monotonic() + _WAIT_S
        while self._may_look():
            step = self._step(needed + ahead)
            if self._has(needed):
                return
            if step is Step.WAITING:
                if time.monotonic() > end:
                    raise StoreUnavailable("room is being made, and that takes long")
                time.sleep(_PAUSE_S)

    def _step(self, wanted: int) -> Step:
        step = self.evictor.step(wanted)
        if step is Step.NOTHING:
            self._look_again = time.monotonic() + _NOTHING_S
        elif step is Step.DONE:
            self._front.measure(self._session)
        return step

    def _is_too_large(self) -> bool:
        """Whether other settings made it so, and something may go."""
        return self._front.settings.evicts and not self._has(0) and self._may_look()

    def _may_look(self) -> bool:
        return time.monotonic() >= self._look_again

    def _has(self, needed: int) -> bool:
        size = self._front.settings.max_size
        return size is None or self._front.stored + needed <= size

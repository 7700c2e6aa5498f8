"""The seeds that are there: who may be one, and how they are asked.

Each block is asked of one seed after the other, first of the one that had something last: mostly
there is one, and it has what is wanted or it has not. One that had nothing of late is asked about
many blocks together, so that what is to be had elsewhere alone costs little here. Many are asked
for at once, up to a window for each seed; the rest waits, in turn for each who asks. What a seed
gives is compared with its reference; whoever gives a wrong block is sent away.

Nothing here is kept, and nothing waits for ever: a seed that is quiet is passed over (`health.py`),
and each wish has an end of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from eris.crypto import reference_of
from eris.errors import CorruptBlock, ErisError, StoreRefused, StoreUnavailable
from eris.model import Reference
from kapla.coap.blocks import MAX_FETCHED, unpack_bitmap
from kapla.coap.link import Link
from kapla.seeds.counts import Counts
from kapla.seeds.health import QUIET_S, State
from kapla.seeds.seed import Seed
from kapla.seeds.users import may_seed
from kapla.seeds.wish import Wish

__all__ = ["MOST_OF_ONE_USER", "MOST_SEEDS", "Seeds"]

_log = logging.getLogger(__name__)

MOST_SEEDS: Final = 16
"""At a time: what none of them has is asked of each."""

MOST_OF_ONE_USER: Final = 4
"""So that nobody takes all places for himself."""

_LATE_S: Final = 2.0
_TOO_LATE_S: Final = 10.0
# How long nobody is a seed whose user had one that gave a wrong block.
_REST_S: Final = 60.0
# How exactly times are kept.
_STEP_S: Final = 0.05


class Seeds:
    """All of them. `users`: who may run one, beside root and the user of this process."""

    def __init__(self, users: Collection[int] = ()) -> None:
        self.users = users
        self.counts = Counts()
        # Those first that had something last.
        self._seeds: list[Seed] = []
        # Those that wait, the oldest first.
        self._open: dict[Wish, None] = {}
        self._not_before: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        # The loop's clock: to find the loop takes longer than to ask it.
        self._now = time.monotonic

    def __len__(self) -> int:
        return len(self._seeds)

    # who is there

    def enter(self, link: Link, uid: int | None) -> None:
        """Whoever is at the other end is a seed from now on; once more, nothing changes.

        `uid`: as the kernel knows it; None where it does not.
        Raises: StoreRefused, if this one may not be; StoreUnavailable, if it may later.
        """
        if any(seed.link is link for seed in self._seeds):
            return
        self._now = asyncio.get_running_loop().time
        try:
            self._admit(uid)
            if not link.is_there or link.ending:
                raise StoreUnavailable("this connection is about to end")
        except ErisError:
            self.counts.refused += 1
            raise
        assert uid is not None
        seed = Seed(link, uid)
        self._seeds.append(seed)
        self.counts.seeds += 1
        link.closed.add_done_callback(lambda _: self._left(seed))
        _log.info("User %d runs a seed", uid)

    def _admit(self, uid: int | None) -> None:
        if uid is None:
            raise StoreRefused("seeds are programs of this machine: connect to the Unix socket")
        if not may_seed(uid, self.users):
            raise StoreRefused(
                "seeds are run by root, the user of this daemon, and those named in seed-users"
            )
        if self._not_before.get(uid, 0.0) > self._now():
            raise StoreUnavailable(
                "a seed of this user gave a wrong block: it is taken again after a minute"
            )
        if len(self._seeds) >= MOST_SEEDS:
            raise StoreUnavailable(f"there are {MOST_SEEDS} seeds already")
        if sum(seed.uid == uid for seed in self._seeds) >= MOST_OF_ONE_USER:
            raise StoreUnavailable(f"there are {MOST_OF_ONE_USER} seeds of this user already")

    def _left(self, seed: Seed) -> None:
        """Its connection has ended."""
        if seed in self._seeds:
            self._seeds.remove(seed)
            _log.info("The seed of user %d is gone", seed.uid)
        self._give_up_on(seed)

    def settle(self, users: Collection[int]) -> None:
        """From now on these may run one; the seeds of others go."""
        self.users = users
        for seed in list(self._seeds):
            if not may_seed(seed.uid, users):
                seed.send_away("this user may run no seed any more: see seed-users")

    def _distrust(self, seed: Seed) -> None:
        """It gave a wrong block."""
        if seed not in self._seeds:
            return
        self._seeds.remove(seed)
        self.counts.wrong += 1
        self._not_before[seed.uid] = self._now() + _REST_S
        _log.warning("The seed of user %d gave a wrong block, and is sent away", seed.uid)
        seed.send_away("a block was wrong")
        self._give_up_on(seed)

    # what they are asked

    def fetch(self, wish: Wish) -> None:
        """Ask for a block: see `Wish`."""
        wish.at = self._now()
        self._open[wish] = None
        self._go_on(wish)
        self._watch()

    def forget(self, wish: Wish) -> None:
        """It is not waited for any more. What is under way ends by itself."""
        self._close(wish)

    def leave(self, asker: object) -> None:
        """This one waits for nothing any more, and has forgotten its wishes."""
        for seed in self._seeds:
            seed.leave(asker)

    async def find(
        self, references: Sequence[Reference], asker: object, *, is_near: bool
    ) -> list[bool | None]:
        """Tell which blocks some seed could give; None where one that is there has not said."""
        now = self._now()
        seeds = [seed for seed in self._seeds if self._may_ask(seed, asker)]
        asked = [
            self._ask_what(seed, references, is_near=is_near)
            for seed in seeds
            if seed.may_be_asked(now)
        ]
        if asked:
            self._watch()
            # Not cancelled: what it owes is counted until it is answered.
            await asyncio.wait(asked, timeout=QUIET_S)
        told = [_told(one, len(references)) for one in asked if one.done()]
        waited_for = sum(seed.health.state is not State.AWAY for seed in seeds)
        otherwise = None if waited_for > len(told) else False
        found = [any(one) for one in zip(*told, strict=True)] or [False] * len(references)
        return [is_there or otherwise for is_there in found]

    def _ask_what(
        self, seed: Seed, references: Sequence[Reference], *, is_near: bool
    ) -> asyncio.Future[Any]:
        question = seed.find(references, is_near=is_near)
        seed.health.asked(self._now())
        question.add_done_callback(partial(self._told_what, seed))
        return question

    def _told_what(self, seed: Seed, question: asyncio.Future[Any]) -> None:
        if not question.cancelled():
            question.exception()  # It is looked at, whoever still waits.
        seed.health.answered(self._now())
        self._serve(seed)

    def _may_ask(self, seed: Seed, asker: object) -> bool:
        return seed.is_there and seed.link is not asker

    def _go_on(self, wish: Wish) -> None:
        """Ask one more seed; if there is none, and none to wait for, nobody has it."""
        if wish.is_over:
            return
        now = self._now()
        quiet: Seed | None = None
        for seed in self._seeds:
            if seed in wish.tried or not self._may_ask(seed, wish.asker):
                continue
            match seed.health.state:
                case State.WELL:
                    self._ask(seed, wish)
                    return
                case State.QUIET:
                    quiet = quiet or seed
                case State.AWAY if seed.health.may_be_tried(now):
                    self._enter(seed, wish)
                    self._send(seed, wish)
                    self._is_late(wish)
                    return
        if quiet is not None:
            self._ask(quiet, wish)
            self._is_late(wish)
        elif not wish.places:
            self._end(wish)

    def _ask(self, seed: Seed, wish: Wish) -> None:
        """For the block, or first whether it has it."""
        self._enter(seed, wish)
        if not seed.lacks_much:
            self._get(seed, wish)
            return
        if not seed.gathered:
            asyncio.get_running_loop().call_soon(self._ask_together, seed)
        seed.gathered.append(wish)

    def _enter(self, seed: Seed, wish: Wish) -> None:
        self.counts.asked += 1
        wish.tried.append(seed)
        wish.places.append(seed)

    def _ask_together(self, seed: Seed) -> None:
        gathered, seed.gathered = seed.gathered, []
        for is_near in (True, False):
            wishes = [wish for wish in gathered if wish.is_near is is_near and seed in wish.places]
            for start in range(0, len(wishes), MAX_FETCHED):
                self._ask_which(seed, wishes[start : start + MAX_FETCHED], is_near=is_near)

    def _ask_which(self, seed: Seed, wishes: Sequence[Wish], *, is_near: bool) -> None:
        if not seed.may_be_asked(self._now()):
            for wish in wishes:
                self._get(seed, wish)
            return
        question = self._ask_what(seed, [wish.reference for wish in wishes], is_near=is_near)
        question.add_done_callback(partial(self._told_which, seed, wishes))

    def _told_which(
        self, seed: Seed, wishes: Sequence[Wish], question: asyncio.Future[Any]
    ) -> None:
        for wish, is_there in zip(wishes, _told(question, len(wishes)), strict=True):
            if seed not in wish.places or wish.is_over:
                continue
            if is_there:
                self._get(seed, wish)
            else:
                wish.places.remove(seed)
                self._go_on(wish)

    def _get(self, seed: Seed, wish: Wish) -> None:
        """Now, or when there is room."""
        if seed.has_room_for(wish, self._now()):
            self._send(seed, wish)
        else:
            seed.wait(wish)

    def _send(self, seed: Seed, wish: Wish) -> None:
        request = seed.get(wish)
        seed.health.asked(self._now())
        request.add_done_callback(partial(self._answered, seed, wish))

    def _serve(self, seed: Seed) -> None:
        """There may be room for what waits."""
        if seed.is_waited_for and not seed.is_there:
            self._give_up_on(seed)
        while (wish := seed.next_waiting(self._now())) is not None:
            if not wish.is_over:
                self._send(seed, wish)

    def _answered(self, seed: Seed, wish: Wish, request: asyncio.Future[bytes]) -> None:
        seed.health.answered(self._now())
        error = _error_of(request)
        if error is None and not wish.is_over:
            block = request.result()
            if reference_of(block) == wish.reference:
                self._got(seed, wish, block)
            else:
                error = CorruptBlock(wish.reference)
        if isinstance(error, CorruptBlock):
            self._distrust(seed)
        elif error is not None:
            seed.lacked()
        if seed in wish.places:
            wish.places.remove(seed)
            self._go_on(wish)
        self._serve(seed)

    def _got(self, seed: Seed, wish: Wish, block: bytes) -> None:
        seed.gave(block)
        self.counts.gave(len(block))
        if self._seeds and self._seeds[0] is not seed and seed in self._seeds:
            self._seeds.remove(seed)
            self._seeds.insert(0, seed)
        self._close(wish)
        wish.got(block)

    def _end(self, wish: Wish) -> None:
        self._close(wish)
        wish.nobody_has()

    def _close(self, wish: Wish) -> None:
        wish.is_over = True
        self._open.pop(wish, None)

    # what takes long

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_STEP_S, self._look)

    def _look(self) -> None:
        """Pass over whoever does not answer, and end what has waited for too long."""
        self._timer = None
        now = self._now()
        for seed in list(self._seeds):
            match seed.health.look(now):
                case State.QUIET:
                    self._hurry(seed)
                case State.AWAY:
                    _log.debug("The seed of user %d does not answer", seed.uid)
                    self._give_up_on(seed)
            # One that is quiet may be tried by what waits.
            self._serve(seed)
        self._end_old_ones(now)
        if self._open or any(seed.health.owed for seed in self._seeds):
            self._watch()

    def _end_old_ones(self, now: float) -> None:
        for wish in list(self._open):
            if wish.at + _LATE_S > now:
                return
            self._is_late(wish)
            if wish.at + _TOO_LATE_S <= now and not wish.is_over:
                self._end(wish)

    def _hurry(self, seed: Seed) -> None:
        """It is quiet: what waits for it is asked of others too."""
        for wish in [wish for wish in self._open if seed in wish.places]:
            self._go_on(wish)
            self._is_late(wish)

    def _is_late(self, wish: Wish) -> None:
        if not wish.is_late and not wish.is_over:
            wish.is_late = True
            wish.late()

    def _give_up_on(self, seed: Seed) -> None:
        """It is waited for no more: what was asked of it is asked of others."""
        seed.forget_waiting()
        for wish in [wish for wish in self._open if seed in wish.places]:
            wish.places.remove(seed)
            self._go_on(wish)


def _error_of(request: asyncio.Future[bytes]) -> BaseException | None:
    return asyncio.CancelledError() if request.cancelled() else request.exception()


def _told(question: asyncio.Future[Any], count: int) -> list[bool]:
    """What a seed has; nothing, if it did not say so as it should."""
    if not question.cancelled() and question.exception() is None:
        with suppress(ValueError):
            return unpack_bitmap(question.result() or b"", count)
    return [False] * count

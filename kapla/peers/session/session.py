"""A session: the blocks of one content that are wanted, and the peers that are asked for them.

A value: it is told what happens and when, and says what to do (`actions`) and when it wants to be
told the time (`due`, `tick`). Each wanted reference ends in exactly one of three ways: the block
comes, `NobodyHas`, or it is forgotten. An answer that nobody waits for any more is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eris.model import Reference
from kapla.peers.session.actions import Action, Distrust
from kapla.peers.session.books import Books
from kapla.peers.session.lateness import pass_on
from kapla.peers.session.member import Member
from kapla.peers.session.serving import DEFAULT_PATIENCE_S, Serving
from kapla.peers.session.standing import Standing
from kapla.peers.session.timing import next_time

__all__ = ["DEFAULT_PATIENCE_S", "Session"]

_WEIGHT: Final = 32 * 1024


class Session:
    """See above. Peers are numbers, of whoever uses it; `now` is in seconds.

    `place`: any number, of this daemon alone; in a crowd it begins there. Whoever wants bounds how
    much is wanted at a time: the rest is bounded by that and the number of peers.
    """

    def __init__(self, *, place: int, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self._books = Books(place)
        self._serving = Serving(self._books, patience_s)
        self._has_changed = False
        self.fetched = 0
        """Bytes of blocks that came."""
        self.fetched_twice = 0
        """Of these, bytes that nobody waited for any more."""

    # what happens

    def join(self, peer: int, standing: Standing, now: float) -> None:
        """There is one more peer to ask."""
        self.leave(peer, now)
        self._books.admit(peer, standing)

    def leave(self, peer: int, now: float) -> None:
        """A peer is there no more; it need not have been."""
        self._change(now)
        self._books.dismiss(peer)

    def want(
        self,
        reference: Reference,
        now: float,
        *,
        but: frozenset[int] = frozenset(),
        weight: int = _WEIGHT,
    ) -> None:
        """A block is wanted. `but`: peers not to be asked for it; `weight`: its size in bytes.

        One that is wanted already is wanted once; it is asked of nobody that either excludes.
        """
        self._change(now)
        want = self._books.wants.get(reference)
        if want is None:
            self._books.enter(reference, weight, but)
        else:
            want.but |= but

    def forget(self, reference: Reference) -> None:
        """Nobody waits for this block any more."""
        self._books.strike(reference)

    def got(self, peer: int, reference: Reference, now: float, size: int | None = None) -> None:
        """A peer gave a block, and it is the right one; `size`: if it is not what was expected."""
        self._change(now)
        answered = self._books.answered(peer, reference)
        if answered is None:
            return
        member, flight = answered
        size = flight.weight if size is None else size
        member.standing.gave(size, now - flight.sent, now)
        if flight.is_blind:
            member.learn(1.0)
        self.fetched += size
        if reference in self._books.wants:
            self._books.strike(reference)
        else:
            self.fetched_twice += size

    def missing(self, peer: int, reference: Reference, now: float) -> None:
        """A peer does not have a block."""
        self._change(now)
        answered = self._books.answered(peer, reference)
        if answered is None:
            return
        member, flight = answered
        if flight.is_blind:
            member.standing.lacked(now)
            member.learn(0.0)
        else:
            # It had said yes.
            member.standing.failed(now)
        want = self._books.wants.get(reference)
        if want is not None:
            want.lacked(peer, now, was_promised=not flight.is_blind)
            self._books.put_back(want)

    def failed(self, peer: int, reference: Reference, now: float) -> None:
        """A peer could not give a block."""
        self._change(now)
        answered = self._books.answered(peer, reference)
        if answered is None:
            return
        answered[0].standing.failed(now)
        want = self._books.wants.get(reference)
        if want is not None:
            want.failed.add(peer)
            self._books.put_back(want)

    def wrong(self, peer: int, reference: Reference, now: float) -> None:
        """A peer gave another block than that: it is left."""
        self._change(now)
        member = self._books.members.get(peer)
        if member is None:
            return
        member.standing.lied(now)
        self._books.dismiss(peer)
        self._books.actions.append(Distrust(peer))

    def found(self, peer: int, question: int, present: Sequence[bool] | None, now: float) -> None:
        """A peer told which blocks it has; None: it does not tell."""
        self._change(now)
        member = self._books.members.get(peer)
        asked = self._books.told(member, question) if member else None
        if member is None or asked is None:
            return
        if present is None:
            member.tells = False
            return
        member.standing.told(now - asked.sent)
        member.told(len(asked.references), sum(present), now)
        for reference, is_there in zip(asked.references, present, strict=True):
            want = self._books.wants.get(reference)
            if want is not None:
                want.told(peer, is_there, now)

    def has_room(self, now: float) -> None:
        """A peer has answered another session: perhaps it can be asked for more."""
        self._change(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._change(now)
        for member in list(self._books.busy.values()):
            self._look_at(member, now)

    def close(self) -> None:
        """Nothing is wanted any more, and no answers are waited for."""
        for reference in list(self._books.wants):
            self._books.strike(reference)
        for peer in list(self._books.members):
            self._books.dismiss(peer)
        self._books.actions.clear()

    # what to do

    @property
    def is_hungry(self) -> bool:
        """Whether something waits until a peer has room."""
        return len(self._books.queue) > 0

    def actions(self) -> list[Action]:
        """What to do now, as of the last that happened. Each is given once."""
        if self._has_changed:
            self._has_changed = False
            self._serving.serve()
        actions, self._books.actions = self._books.actions, []
        return actions

    def due(self) -> float | None:
        """When `tick` is to be called next; None: not before something else happens."""
        return next_time(self._books, self._serving.stuck, self._serving.patience_s)

    # within

    def _change(self, now: float) -> None:
        self._books.now = now
        self._has_changed = True

    def _look_at(self, member: Member, now: float) -> None:
        """What is late, what will not come, and whether the peer works at all."""
        standing = member.standing
        if standing.is_silent(now):
            standing.fell_silent(now)
        for number, question in list(member.questions.items()):
            if now >= question.sent + standing.limit_s:
                self._no_answer(member, number, now)
        if standing.breaker.is_open and standing.breaker.probe_at is None:
            self._books.give_back(member, member.give_up())
            return
        given_up = pass_on(member, now)
        if given_up:
            standing.timed_out(now)
            self._books.give_back(member, given_up)

    def _no_answer(self, member: Member, question: int, now: float) -> None:
        self._books.told(member, question)
        member.tells = False
        if not member.standing.breaker.is_open:
            member.standing.fell_silent(now)

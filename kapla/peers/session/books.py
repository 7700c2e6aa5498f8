"""Who wants what of whom in a session: the one place where a request is entered and struck out."""

from __future__ import annotations

from itertools import islice
from typing import Final

from eris.model import Reference
from kapla.peers.session.actions import Action, Find, Get, NobodyHas
from kapla.peers.session.lateness import Spare
from kapla.peers.session.member import Flight, Member, Question
from kapla.peers.session.queue import Queue
from kapla.peers.session.standing import Standing
from kapla.peers.session.want import Want

__all__ = ["Books"]

# So many peers are looked at for each block, as long as these have what is wanted.
_ACTIVE: Final = 32
_MOST_ACTIVE: Final = 128


class Books:
    """Wants, peers, and what these owe. A want waits in the queue or has flights, never both."""

    def __init__(self, place: int) -> None:
        self.wants: dict[Reference, Want] = {}
        self.queue = Queue(place)
        self.members: dict[int, Member] = {}
        self.active: dict[int, Member] = {}
        """Of these, those that are looked at; the others sit on the bench until they are needed."""
        self.busy: dict[int, Member] = {}
        """Of these, those that owe an answer."""
        self.spare = Spare()
        self.actions: list[Action] = []
        self.now = 0.0
        self.changes = 0
        """Counts what is newly wanted."""
        self._questions = 0

    def enter(self, reference: Reference, weight: int, but: frozenset[int]) -> None:
        """A block is wanted."""
        self.changes += 1
        want = self.wants[reference] = Want(reference, self.changes, weight, but, self.now)
        self.queue.add(want)

    def strike(self, reference: Reference) -> None:
        """A block is not wanted any more; it need not have been."""
        want = self.wants.pop(reference, None)
        if want is not None:
            self.queue.remove(want)

    def give_up(self, want: Want, was_failure: bool) -> None:
        """Nobody has it."""
        self.strike(want.reference)
        self.actions.append(NobodyHas(want.reference, was_failure))

    def admit(self, number: int, standing: Standing) -> None:
        """There is one more peer."""
        member = self.members[number] = Member(number, standing)
        if len(self.active) < _ACTIVE:
            self.active[number] = member
        self._count_members()

    def dismiss(self, number: int) -> None:
        """A peer is there no more: what it owes is asked of others."""
        member = self.members.pop(number, None)
        if member is None:
            return
        self.active.pop(number, None)
        self.busy.pop(number, None)
        self._count_members()
        for reference in list(member.owed):
            member.answered(reference)
            if reference in self.wants:
                self.wants[reference].was_failure = True
        for want in self.wants.values():
            want.gone(number)
            self.put_back(want)

    def reinforce(self, want: Want) -> bool:
        """None of the active is of use for this: others take their place, if there are any."""
        bench = (
            member
            for number, member in self.members.items()
            if number not in self.active and not want.is_out(number)
        )
        fresh = list(islice(bench, _ACTIVE))
        if fresh:
            self._bench(len(self.active) + len(fresh) > _MOST_ACTIVE)
            self.active.update((member.number, member) for member in fresh)
        return bool(fresh)

    def _bench(self, are_too_many: bool) -> None:
        """Those that had nothing sit down; if there are too many, all that do nothing now."""
        for number, member in list(self.active.items()):
            is_good = member.is_trusted or member.is_unknown or member.is_useful
            if number not in self.busy and (are_too_many or not is_good):
                del self.active[number]

    def ask(self, member: Member, want: Want) -> None:
        """Ask a peer for a block."""
        is_blind = member.number not in want.has
        expected_s = member.standing.finish_s()
        flight = Flight(want.reference, want.weight, self.now, expected_s, is_blind)
        member.asked(flight, self.now)
        want.flights.add(member.number)
        self.queue.remove(want)
        self.busy[member.number] = member
        self.spare.asked(want.weight)
        self.actions.append(Get(member.number, want.reference))

    def question(self, member: Member, wants: list[Want]) -> None:
        """Ask a peer which of these it has."""
        references = tuple(want.reference for want in wants)
        self._questions += 1
        member.questioned(self._questions, Question(references, self.now))
        self.busy[member.number] = member
        for want in wants:
            want.asking.add(member.number)
        self.actions.append(Find(member.number, self._questions, references))

    def answered(self, number: int, reference: Reference) -> tuple[Member, Flight] | None:
        """A peer answered; None, if it was not asked."""
        member = self.members.get(number)
        flight = member.answered(reference) if member else None
        if member is None or flight is None:
            return None
        self._idle(member)
        if reference in self.wants:
            self.wants[reference].flights.discard(number)
        return member, flight

    def told(self, member: Member, question: int) -> Question | None:
        """A peer answered a question, or did not in time; None, if it was not asked."""
        asked = member.questions.pop(question, None)
        for reference in asked.references if asked else ():
            if reference in self.wants:
                self.wants[reference].asking.discard(member.number)
        self._idle(member)
        return asked

    def give_back(self, member: Member, flights: list[Flight]) -> None:
        """These will not come in time from this peer, if at all."""
        for flight in flights:
            want = self.wants.get(flight.reference)
            if want is not None:
                want.flights.discard(member.number)
                self.put_back(want)

    def put_back(self, want: Want) -> None:
        """If nobody is asked for it now, it waits again."""
        if want.flights or want in self.queue:
            return
        want.since = self.now
        self.queue.add(want)
        for number in want.has:
            self.members[number].is_useful = True

    def _idle(self, member: Member) -> None:
        if not member.owed and not member.questions:
            self.busy.pop(member.number, None)

    def _count_members(self) -> None:
        is_alone = len(self.members) == 1
        if len(self.members) <= 2:
            for member in self.members.values():
                member.is_alone = is_alone

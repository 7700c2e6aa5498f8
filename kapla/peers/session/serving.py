"""What is decided after each event: who is asked for what waits, for what is late, at the end."""

from __future__ import annotations

from typing import Final

from kapla.peers.session.books import Books
from kapla.peers.session.choosing import Choice, Place
from kapla.peers.session.lateness import remaining_s
from kapla.peers.session.member import Flight, Member
from kapla.peers.session.questions import plan
from kapla.peers.session.standing import NEAR_SILENCE_S
from kapla.peers.session.want import Want

__all__ = ["DEFAULT_PATIENCE_S", "Serving"]

DEFAULT_PATIENCE_S: Final = 10.0
"""A peer that is owed an answer is hoped for so long, where nobody else has the block."""

# Asking once more must gain so much.
_GAIN: Final = 1.25


class Serving:
    """Decides for one session. `patience_s`: how long a peer that does not answer is hoped for."""

    def __init__(self, books: Books, patience_s: float) -> None:
        self._books = books
        self.patience_s = patience_s
        self.stuck: list[Want] = []
        """What waits, and nobody is likely to have."""

    def serve(self) -> None:
        """Decide, as things stand."""
        while self._serve():
            pass

    def _serve(self) -> bool:
        """Decide; true, if others take part now and it is to be decided again."""
        books = self._books
        choice = Choice(books.active.values(), books.now)
        self._hedge(choice)
        self._ask_questions(only_near=True)
        self.stuck = self._share_out(choice)
        self._ask_questions()
        if any(self._last_resort(want) for want in self.stuck):
            return True
        if not books.queue and len(books.members) > 1:
            self._ask_two(choice)
        return False

    def _share_out(self, choice: Choice) -> list[Want]:
        """Give what waits to who has room; returns what nobody is likely to have."""
        queue, members = self._books.queue, self._books.active.values()
        if not queue:
            return []
        is_crowd = any(not (member.is_trusted or member.is_unknown) for member in members)
        stuck, chosen = [], []
        telling = self._near_that_tell()
        for want in queue.from_place() if is_crowd else queue.in_order():
            if choice.roomy <= 0 and choice.common:
                break
            best = choice.best(want)
            if not (telling.isdisjoint(want.asking) or (best is not None and best.is_near)):
                continue
            if best is None:
                stuck.append(want)
                continue
            if best.room > 0:
                chosen.append((best, want))
            else:
                best.member.standing.window.used_up()
            choice.take(best, want.weight)
        for place, want in chosen:
            self._books.ask(place.member, want)
        return stuck

    def _hedge(self, choice: Choice) -> None:
        """Ask another for what is late."""
        for member in list(self._books.busy.values()):
            for flight in list(member.late.values()):
                want = self._wanted_once(flight)
                if want is None:
                    continue
                if not self._books.spare.allows(want.weight, member.standing.window.size):
                    break
                place = choice.best(want, only_roomy=True)
                if place is not None and not self._is_spared(place, member, flight):
                    self._ask_also(place, want, choice)

    def _ask_two(self, choice: Choice) -> None:
        """Nothing waits: ask who would be quicker than who was asked."""
        now = self._books.now
        flights = [
            (remaining_s(flight, now), flight, member)
            for member in self._books.busy.values()
            for flight in (*member.fresh.values(), *member.late.values())
        ]
        flights.sort(key=lambda one: one[0], reverse=True)
        for left_s, flight, member in flights:
            want = self._wanted_once(flight)
            place = choice.best(want, only_roomy=True) if want else None
            if want is None or place is None or self._is_spared(place, member, flight):
                continue
            window = place.member.standing.window.size
            if _GAIN * place.finish_s >= left_s or not self._books.spare.allows(
                want.weight, window
            ):
                return
            self._ask_also(place, want, choice)

    def _is_spared(self, place: Place, asked: Member, flight: Flight) -> bool:
        """Whether this is far, and who was asked is near, and may still give it."""
        is_hoped_for = asked.standing.is_proven and self._books.now < flight.sent + NEAR_SILENCE_S
        return asked.standing.is_near and not place.is_near and is_hoped_for

    def _wanted_once(self, flight: Flight) -> Want | None:
        want = self._books.wants.get(flight.reference)
        return want if want is not None and len(want.flights) == 1 else None

    def _ask_also(self, place: Place, want: Want, choice: Choice) -> None:
        choice.take(place, want.weight)
        self._books.spare.asked_twice(want.weight)
        self._books.ask(place.member, want)

    def _near_that_tell(self) -> set[int]:
        """Those who are near, and were just asked what they have."""
        books = self._books
        return {
            member.number
            for member in books.busy.values()
            if member.standing.is_near and books.now < member.tells_until
        }

    def _ask_questions(self, *, only_near: bool = False) -> None:
        books = self._books
        if not books.wants or (len(books.members) == 1 and not self.stuck):
            return
        stuck = [] if only_near else self.stuck
        waiting = stuck or list(books.queue.in_order())
        for member, wants in plan(books, waiting, bool(stuck), only_near=only_near):
            books.question(member, wants)

    def _last_resort(self, want: Want) -> bool:
        """Nobody is likely to have it: ask those that do not tell, or others, or say so.

        True, if others are to be asked.
        """
        if want.asking:
            return False
        now, may_come = self._books.now, False
        for member in self._books.active.values():
            if want.is_out(member.number):
                continue
            flight = member.owed.get(want.reference)
            if flight is not None:
                may_come = may_come or now < flight.sent + self.patience_s
            elif member.is_blocked(now):
                may_come = may_come or self._is_hoped_for(member, want)
            elif member.is_to_be_questioned:
                may_come = True
            elif member.room(now) > 0:
                self._books.ask(member, want)
                return False
            else:
                may_come = True
        if may_come:
            return False
        if self._books.reinforce(want):
            return True
        self._books.give_up(want, self._was_failure(want))
        return False

    def _is_hoped_for(self, member: Member, want: Want) -> bool:
        """Whether it is worth while to wait until a peer can be asked again."""
        breaker = member.standing.breaker
        if breaker.is_open and not breaker.is_silent:
            return False
        patient_until = want.since + min(self.patience_s, DEFAULT_PATIENCE_S)
        return max(self._books.now, breaker.until) < patient_until

    def _was_failure(self, want: Want) -> bool:
        """Whether somebody who may have it did not say that it has not."""
        return want.was_failure or any(
            number not in want.lacks and number not in want.but for number in self._books.members
        )

"""A peer in one session: what it owes us, and whether it tends to have what we want."""

from __future__ import annotations

from typing import Final

from eris.model import Reference
from kapla.peers.session.standing import Standing

__all__ = ["MAX_QUESTIONS", "Flight", "Member", "Question"]

MAX_QUESTIONS: Final = 2
# Of a peer that had so many of the last blocks the next are wanted without asking first.
_TRUSTED: Final = 0.8
_MEMORY: Final = 8
# How long others are not asked for what one who is near may have, until it tells: it is some
# milliseconds away, and may be busy.
_HOLD_S: Final = 0.25
# A peer that never gave anything is not given much to do while there are others.
_UNPROVEN: Final = 64 * 1024
_LEAST_INTERVAL_S: Final = 0.1
_MOST_INTERVAL_S: Final = 2.0


class Flight:
    """A block that a peer was asked for."""

    __slots__ = ("expected_s", "is_blind", "reference", "sent", "weight")

    def __init__(
        self, reference: Reference, weight: int, sent: float, expected_s: float, is_blind: bool
    ) -> None:
        self.reference = reference
        self.weight = weight
        self.sent = sent
        self.expected_s = expected_s
        """How long it was thought to take."""
        self.is_blind = is_blind
        """Whether the peer was asked without having said that it has the block."""


class Question:
    """Which of some blocks a peer has."""

    __slots__ = ("references", "sent")

    def __init__(self, references: tuple[Reference, ...], sent: float) -> None:
        self.references = references
        self.sent = sent


class Member:
    """One peer of a session."""

    __slots__ = (
        "ask_at",
        "fresh",
        "interval_s",
        "is_alone",
        "is_useful",
        "late",
        "number",
        "owed",
        "questions",
        "ratio",
        "seen",
        "standing",
        "tells",
        "tells_until",
    )

    def __init__(self, number: int, standing: Standing) -> None:
        self.number = number
        self.standing = standing
        self.owed: dict[Reference, Flight] = {}
        """All that it was asked for and has not answered."""
        self.fresh: dict[Reference, Flight] = {}
        """Of these, what is not late, in the order of asking."""
        self.late: dict[Reference, Flight] = {}
        """Of these, what is late and not given up."""
        self.questions: dict[int, Question] = {}
        self.ratio: float | None = None
        """Which part of the last blocks it had, where that was not known before."""
        self.tells = standing.tells
        """Whether it is asked questions, and answers them."""
        self.is_useful = False
        """Whether it may have said of something that waits that it has it."""
        self.is_alone = False
        """Whether there is no other peer."""
        self.seen = -1
        """Up to which change of what is wanted it was asked."""
        self.tells_until = 0.0
        """Until when its word of what it has is waited for, if it is near."""
        self.ask_at = 0.0
        """When what it lacked is asked about again."""
        self.interval_s = _LEAST_INTERVAL_S

    @property
    def is_trusted(self) -> bool:
        """Whether it had the last blocks, so that it is asked for the next without a question."""
        return self.ratio is not None and self.ratio >= _TRUSTED

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of what it has."""
        return self.ratio is None

    @property
    def is_to_be_questioned(self) -> bool:
        """Whether it is asked what it has before it is asked for it."""
        return self.tells and not self.is_trusted and not self.standing.breaker.is_open

    def room(self, now: float) -> float:
        """How many bytes more it may owe: over 0 lets one more block go, whatever its size."""
        if self.standing.is_proven or self.is_alone:
            return self.standing.room(now)
        return self.standing.room(now, _UNPROVEN)

    def questioned(self, number: int, question: Question) -> None:
        """It was asked what it has."""
        self.questions[number] = question
        self.tells_until = question.sent + _HOLD_S

    def is_blocked(self, now: float) -> bool:
        """Whether it can be asked for nothing, and no answer in time is to be hoped for."""
        if self.room(now) > 0:
            return False
        return self.standing.breaker.is_open or bool(self.owed and not self.fresh and not self.late)

    def give_up(self) -> list[Flight]:
        """No answer will come in time; gives what was hoped for. All is owed still."""
        flights = [*self.fresh.values(), *self.late.values()]
        self.fresh.clear()
        self.late.clear()
        return flights

    def asked(self, flight: Flight, now: float) -> None:
        """It was asked for a block."""
        self.owed[flight.reference] = self.fresh[flight.reference] = flight
        self.standing.asked(flight.weight, now)

    def answered(self, reference: Reference) -> Flight | None:
        """It answered, or never will: nothing is owed for this any more."""
        flight = self.owed.pop(reference, None)
        if flight is not None:
            self.fresh.pop(reference, None)
            self.late.pop(reference, None)
            self.standing.released(flight.weight)
        return flight

    def learn(self, part: float, counts: int = 1) -> None:
        """It had this part of what it was asked for or about; `counts`: as much as so many."""
        if self.ratio is None:
            self.ratio = part
        else:
            self.ratio += (part - self.ratio) * min(counts, _MEMORY // 2) / _MEMORY

    def told(self, count: int, yes: int, now: float) -> None:
        """It answered a question: of `count` blocks it has `yes`."""
        self.learn(yes / count, count)
        if yes:
            self.is_useful = True
            self.interval_s = max(_LEAST_INTERVAL_S, 2 * self.standing.srtt_s)
        else:
            self.interval_s = min(_MOST_INTERVAL_S, 2 * self.interval_s)
        self.ask_at = now + self.interval_s

"""What is late, and what is given up; how much may be asked twice for it."""

from __future__ import annotations

from itertools import takewhile
from typing import Final

from kapla.peers.session.member import Flight, Member

__all__ = ["Spare", "late_at", "pass_on", "remaining_s"]

# One in so many bytes.
_PART: Final = 20


class Spare:
    """How much may be asked of a second peer: one window, filled again by a part of all asked."""

    def __init__(self) -> None:
        self._used = 0

    def asked(self, weight: int) -> None:
        """So many bytes were asked for."""
        self._used = max(0, self._used - weight)

    def asked_twice(self, weight: int) -> None:
        """So many were asked for of another peer too."""
        self._used += _PART * weight

    def allows(self, weight: int, window: float) -> bool:
        """Whether so many more may be, where a window has this size."""
        return self._used + _PART * weight <= _PART * window


def late_at(member: Member) -> float | None:
    """When the next of what this peer owes will be late."""
    for flight in member.fresh.values():
        return flight.sent + member.standing.round_trip.late_s
    return None


def pass_on(member: Member, now: float) -> list[Flight]:
    """Move what is late to the late; take out, and give, what is so late that it is given up."""
    late_s = member.standing.round_trip.late_s
    late = list(takewhile(lambda flight: now >= flight.sent + late_s, member.fresh.values()))
    for flight in late:
        member.late[flight.reference] = member.fresh.pop(flight.reference)
    limit_s = member.standing.limit_s
    given_up = [flight for flight in member.late.values() if now >= flight.sent + limit_s]
    for flight in given_up:
        del member.late[flight.reference]
    return given_up


def remaining_s(flight: Flight, now: float) -> float:
    """How long a block may still take: what is overdue, half as long again as it already has."""
    return max(flight.sent + flight.expected_s - now, (now - flight.sent - flight.expected_s) / 2)

"""What is late, and what is given up; how much may be asked twice for it."""

from __future__ import annotations

from typing import Final

from kapla.peers.session.member import Flight, Member

__all__ = ["Spare", "late_at", "pass_on", "remaining_s"]

_PART: Final = 0.05


class Spare:
    """How much may be asked of a second peer: a part of all that is asked, and one window."""

    def __init__(self) -> None:
        self._asked = 0
        self._twice = 0

    def asked(self, weight: int) -> None:
        """So many bytes were asked for, for the first time."""
        self._asked += weight

    def asked_twice(self, weight: int) -> None:
        """So many were asked for of another peer too."""
        self._twice += weight

    def allows(self, weight: int, window: float) -> bool:
        """Whether so many more may be, where a window has this size."""
        return self._twice + weight <= _PART * self._asked + window


def late_at(member: Member) -> float | None:
    """When the next of what this peer owes will be late."""
    for flight in member.fresh.values():
        return flight.sent + member.standing.round_trip.late_s
    return None


def pass_on(member: Member, now: float) -> list[Flight]:
    """Move what is late to the late; take out, and give, what is so late that it is given up."""
    late_s = member.standing.round_trip.late_s
    for reference, flight in list(member.fresh.items()):
        if now < flight.sent + late_s:
            break
        member.late[reference] = member.fresh.pop(reference)
    limit_s = member.standing.limit_s
    given_up = [flight for flight in member.late.values() if now >= flight.sent + limit_s]
    for flight in given_up:
        del member.late[flight.reference]
    return given_up


def remaining_s(flight: Flight, now: float) -> float:
    """How long a block may still take: what is overdue, half as long again as it already has."""
    return max(flight.sent + flight.expected_s - now, (now - flight.sent - flight.expected_s) / 2)

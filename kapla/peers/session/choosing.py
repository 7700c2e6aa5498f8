"""Whom to ask: the peer that would be done first, though it may have to be waited for.

A pass over what waits gives each block to the peer that would have it here soonest, behind all that
this peer owes already and was promised in the pass. If that one has no room now the block waits for
it: a peer that takes ten times as long gets nothing to do that others finish before it.

What is near comes first, even if it gives more slowly: the line to all others is one, and a whole
network may share it. So blocks wait for a near peer where a far one could give them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

from kapla.peers.session.member import Member
from kapla.peers.session.want import Want

__all__ = ["Choice", "Place"]

# So many of those that tend to have everything are compared, the quickest.
_COMPARED: Final = 16
# Those that had the last blocks come before those of which nothing is known.
_UNKNOWN: Final = 1.5
# What others have too is left to them, unless they take so much longer: a source of everything is
# kept for what it alone has.
_LEAVE_TO_OTHERS: Final = 2.0
# So many times more slowly a near one may give: whoever is near is nobody to be trusted.
_SLOWER: Final = 16.0
# Or this, of which nobody complains: a byte of a MiB a second.
_GOOD_S: Final = 1 / (1024 * 1024)


class Place:
    """A peer in one pass: what it owes, and was promised."""

    __slots__ = ("_load", "_srtt_s", "_window", "factor", "is_near", "member", "room")

    def __init__(self, member: Member, now: float) -> None:
        standing = member.standing
        self.member = member
        self.room = member.room(now)
        self.factor = _UNKNOWN if member.is_unknown else 1.0
        self.is_near = standing.is_near
        self._srtt_s = standing.srtt_s
        self._window = standing.window.size
        # Of one that is tried, what it never answered says nothing.
        self._load = 0.0 if standing.breaker.is_open else float(standing.outstanding)

    @property
    def finish_s(self) -> float:
        """When the next block would be here."""
        return self._srtt_s * (1 + self._load / self._window)

    @property
    def cost(self) -> float:
        """The less the better."""
        return self.factor * self.finish_s

    def take(self, weight: int) -> None:
        """It was asked for so much, or was promised it."""
        self._load += weight
        self.room -= weight


class _Best:
    """The best of some places so far."""

    __slots__ = ("cost", "place")

    def __init__(self) -> None:
        self.place: Place | None = None
        self.cost = float("inf")

    def offer(self, place: Place, cost: float) -> None:
        """One more."""
        if cost < self.cost:
            self.place, self.cost = place, cost


def _nearer(near: _Best, far: _Best) -> _Best:
    """Which of both: the near one, unless it is far slower, and has too much to do."""
    if near.place is None or far.place is None:
        return far if near.place is None else near
    if _is_worth_it(near.place.member, far.place.member):
        return near
    return min(near, far, key=lambda best: best.cost)


def _is_worth_it(near: Member, far: Member) -> bool:
    """Whether a near one does not give too slowly."""
    return _pace_s(near) <= max(_GOOD_S, _SLOWER * _pace_s(far))


def _pace_s(member: Member) -> float:
    """How long a byte takes."""
    return member.standing.round_trip.surely_s / member.standing.window.size


class Choice:
    """The peers as they stand at one time. Blocks are given to them one after the other."""

    def __init__(self, members: Iterable[Member], now: float) -> None:
        self._places: dict[int, Place] = {}
        self.roomy = 0
        """How many have room and may have something to give."""
        common = []
        for member in members:
            if member.is_blocked(now):
                continue
            place = self._places[member.number] = Place(member, now)
            if member.is_trusted or member.is_unknown:
                common.append(place)
                self.roomy += place.room > 0
            elif member.is_useful:
                self.roomy += place.room > 0
        if len(common) > _COMPARED:
            common = nsmallest(_COMPARED, common, key=lambda place: (place.room <= 0, place.cost))
            self.roomy = sum(
                place.room > 0
                for place in self._places.values()
                if place in common or place.member.is_useful
            )
        self.common = common

    def best(self, want: Want, *, only_roomy: bool = False) -> Place | None:
        """The peer that is likely to have this block soonest; None if none is likely to have it."""
        near, far = _Best(), _Best()
        leave = 1.0
        for number in want.has:
            place = self._places.get(number)
            if place is None or not _may_be_asked(place, want, only_roomy):
                continue
            if not place.member.is_trusted:
                leave = _LEAVE_TO_OTHERS
            (near if place.is_near else far).offer(place, place.finish_s)
        for place in self.common:
            if place.member.number in want.has and not place.member.is_trusted:
                continue
            best, cost = near if place.is_near else far, leave * place.cost
            if cost < best.cost and _may_be_asked(place, want, only_roomy):
                best.offer(place, cost)
        return _nearer(near, far).place

    def take(self, place: Place, weight: int) -> None:
        """A block goes to this peer, now or when it has room."""
        had_room = place.room > 0
        place.take(weight)
        if had_room and place.room <= 0:
            self.roomy -= 1


def _may_be_asked(place: Place, want: Want, only_roomy: bool) -> bool:
    return (
        not (only_roomy and place.room <= 0)
        and want.reference not in place.member.owed
        and not want.is_out(place.member.number)
    )

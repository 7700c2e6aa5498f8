"""When a session wants to be told the time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from kapla.peers.session.books import Books
from kapla.peers.session.lateness import late_at
from kapla.peers.session.member import Member
from kapla.peers.session.serving import DEFAULT_PATIENCE_S
from kapla.peers.session.want import Want

__all__ = ["next_time"]

# No more often is looked whether somebody else would be quicker.
_LEAST_LOOK_S: Final = 0.005
# Sessions that know of each other tell when there is room.
_LOOK_FOR_ROOM_S: Final = 0.05


def next_time(books: Books, stuck: list[Want], patience_s: float) -> float | None:
    """When the next thing is due, if nothing happens before; None: nothing ever is."""
    times = [time for member in books.busy.values() for time in _times_of(member, books.now)]
    if books.queue:
        times += _times_of_waiting(books, stuck, patience_s)
    elif len(books.members) > 1 and books.wants:
        times += _times_of_end(books)
    return min(times, default=None)


def _times_of(member: Member, now: float) -> Iterator[float]:
    """When something will be late, or given up."""
    standing = member.standing
    yield from (time for time in (late_at(member), standing.silent_at) if time is not None)
    for flight in member.late.values():
        yield flight.sent + standing.limit_s
        break
    for question in member.questions.values():
        yield question.sent + standing.limit_s
    if standing.is_near and member.questions and member.tells_until > now:
        yield member.tells_until


def _times_of_waiting(books: Books, stuck: list[Want], patience_s: float) -> list[float]:
    times = []
    for member in books.active.values():
        if member.standing.breaker.is_open:
            times.append(member.standing.breaker.until)
        elif member.ask_at and not member.is_trusted and not member.questions:
            times.append(member.ask_at)
    if stuck:
        times += [stuck[0].since + patience_s, stuck[0].since + DEFAULT_PATIENCE_S]
    times = [time for time in times if time > books.now]
    # Else only another session's answers make room, of which we are not told.
    return times if books.busy else [*times, books.now + _LOOK_FOR_ROOM_S]


def _times_of_end(books: Books) -> list[float]:
    """When somebody else may be quicker than who was asked: soon, then less and less often."""
    sent = [
        flight.sent
        for member in books.busy.values()
        for flight in (*islice(member.fresh.values(), 1), *islice(member.late.values(), 1))
    ]
    if not sent:
        return []
    quickest = min((member.standing.srtt_s for member in books.active.values()), default=0.0)
    waited_s = books.now - min(sent)
    return [books.now + max(_LEAST_LOOK_S, quickest / 2, waited_s / 4)]

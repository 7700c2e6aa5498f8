"""Which peers to ask what they have, and about which blocks.

Those of which nothing is known, once; those that have some of what is wanted, about all of it. What
a peer lacked is asked again after a while, sooner if it has had something since: in a crowd it is
just fetching it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from kapla.peers.session.books import Books
from kapla.peers.session.member import MAX_QUESTIONS, Member
from kapla.peers.session.want import Want

__all__ = ["plan"]

# References in one question; a question of a whole window is 8 KiB.
_MOST_ASKED: Final = 256
# So many peers of which nothing is known are asked at a time.
_STRANGERS: Final = 32
# With so many that have everything, no strangers are looked for.
_ENOUGH: Final = 16


def plan(
    books: Books, waiting: list[Want], is_stuck: bool, *, only_near: bool = False
) -> list[tuple[Member, list[Want]]]:
    """Which questions to send now. `is_stuck`: nobody is known to have what waits."""
    members = books.active.values()
    strangers = sum(bool(member.is_unknown and member.questions) for member in members)
    has_enough = sum(member.is_trusted for member in members) >= _ENOUGH
    planned = []
    for member in members:
        if not _may_ask(member) or (only_near and not member.standing.is_near):
            continue
        if member.is_unknown:
            if member.questions or strangers >= _STRANGERS or (has_enough and not is_stuck):
                continue
            strangers += 1
            wants = _unknown_to(member, books.wants.values())
        elif member.is_trusted and not is_stuck:
            continue
        else:
            wants = _news(member, waiting, is_stuck, books)
        if wants:
            planned.append((member, wants))
    return planned


def _may_ask(member: Member) -> bool:
    return (
        member.tells
        and len(member.questions) < MAX_QUESTIONS
        and not member.standing.breaker.is_open
    )


def _news(member: Member, waiting: list[Want], is_stuck: bool, books: Books) -> list[Want]:
    is_early = books.now < member.ask_at and not _is_near_and_useful(member)
    if is_early and (not is_stuck or member.seen == books.changes):
        return []
    before = books.now - member.interval_s
    wants = [want for want in waiting if _is_news(want, member, before)]
    if len(wants) <= _MOST_ASKED:
        member.seen = books.changes
    return wants[:_MOST_ASKED]


def _is_near_and_useful(member: Member) -> bool:
    """Whether it has some of what is wanted, and what it has is not to come from afar."""
    return member.standing.is_near and bool(member.ratio)


def _unknown_to(member: Member, wants: Iterable[Want]) -> list[Want]:
    return list(
        islice((want for want in wants if _is_news(want, member, float("-inf"))), _MOST_ASKED)
    )


def _is_news(want: Want, member: Member, before: float) -> bool:
    """Whether it is not known whether the peer has this, or that was long ago."""
    number = member.number
    return (
        number not in want.has
        and number not in want.asking
        and number not in want.failed
        and number not in want.but
        and want.lacks.get(number, float("-inf")) <= before
    )

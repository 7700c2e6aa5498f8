"""How seeds are asked, passed over, and sent away; and the way from them to peers."""

from __future__ import annotations

import asyncio
import os

import pytest

from eris import Reference
from eris.errors import BlockNotFound, StoreRefused, StoreUnavailable
from kapla.coap.beyond import SEEDS, Found, Leaving
from kapla.coap.blocks import pack_bitmap
from kapla.coap.frame import Code, format_message
from kapla.coap.link import Link
from kapla.seeds.health import AWAY_S, QUIET_S
from kapla.seeds.seed import MOST_OF_A_KIND, MOST_UNDER_WAY
from kapla.seeds.seeds import MOST_OF_ONE_USER, MOST_SEEDS
from tests.kapla.coap.harness import FakeTransport
from tests.kapla.seeds.playing import (
    BLOCKS,
    LARGE_BLOCKS,
    NAMES,
    USER,
    House,
    Played,
    played,
    settle,
)

HOP_LIMIT, SIZE1, NEAR = 16, 60, 65004
STEP_S = 0.1


def made(number: int) -> Found:
    return Found(BLOCKS[number], True, SEEDS)


def test_what_a_seed_has_is_asked_of_nobody_else() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(*range(20))
        await settle()
        assert seed.names == NAMES[:20]
        seed.answer()
        await settle()
        assert [house.result(number) for number in range(20)] == [made(n) for n in range(20)]
        assert house.others.waiting == []
        assert house.seeds.counts.told(1) == {
            "now": 1,
            "since_start": 1,
            "refused": 0,
            "wrong": 0,
            "asked": 20,
            "blocks": 20,
            "bytes": 20 * 1024,
        }

    played(test)


def test_what_it_has_not_is_asked_of_peers_as_far_as_that_may_go() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds, [])
        house.fetch(0, hops=3)
        house.fetch(1, hops=0)
        await settle()
        seed.answer()
        await settle()
        assert [item[:2] for item in house.others.waiting] == [(NAMES[0], 3)]
        assert isinstance(house.result(1), BlockNotFound)
        found = Found(BLOCKS[0], False, "desktop")
        house.others.say(found)
        assert house.result(0) == found

    played(test)


def test_a_question_says_which_block_how_far_how_large_and_whether_somebody_near_asks() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.near.add("near")
        house.fetch(0, asker="near")
        house.fetch(1, asker="far")
        await settle()
        near, far = seed.asked
        assert [number for number, _ in near.options] == [11, 11, 11, 15, HOP_LIMIT, SIZE1, NEAR]
        assert dict(near.options)[HOP_LIMIT] == b"\1"
        assert dict(near.options)[SIZE1] == b"\x80\0"
        assert [number for number, _ in far.options] == [11, 11, 11, 15, HOP_LIMIT, SIZE1]
        seed.answer()
        await settle()
        # A content has blocks of one size.
        house.fetch(2)
        await settle()
        assert dict(seed.asked[0].options)[SIZE1] == b"\x04\0"

    played(test)


def test_one_after_the_other_is_asked_and_first_the_one_that_had_something_last() -> None:
    async def test(house: House) -> None:
        one, two = Played(house.seeds, BLOCKS[:2]), Played(house.seeds, BLOCKS[2:])
        house.fetch(2)
        await settle()
        assert (one.names, two.names) == ([NAMES[2]], [])
        one.answer()
        await settle()
        two.answer()
        await settle()
        assert house.result(2) == made(2)
        house.fetch(3)
        await settle()
        assert (one.names, two.names) == ([], [NAMES[3]])

    played(test)


def test_no_more_is_asked_than_fits_and_each_who_asks_has_its_turn() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds, LARGE_BLOCKS)
        nothing = unknown(MOST_OF_A_KIND + 10)
        for name in nothing:
            house.ask(name, 0, "much")
        house.fetch(0, asker="little")
        await settle()
        assert len(seed.asked) == MOST_OF_A_KIND
        seed.answer(2)
        await settle()
        assert seed.names[-2:] == [nothing[MOST_OF_A_KIND], NAMES[0]]

    played(test)


def unknown(count: int) -> list[Reference]:
    """References of blocks that nobody has."""
    return [Reference(bytes([n % 256, n // 256]) * 16) for n in range(count)]


def test_who_is_near_need_not_wait_for_what_others_want() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.near.add("near")
        nothing = unknown(2 * MOST_UNDER_WAY)
        for number, name in enumerate(nothing[:MOST_UNDER_WAY]):
            house.ask(name, 0, f"stranger {number}")
        house.fetch(0, asker="near")
        await settle()
        assert len(seed.asked) == MOST_OF_A_KIND + 1
        assert seed.names[-1] == NAMES[0]
        # Together they have the window, and not more.
        for name in nothing[MOST_UNDER_WAY:]:
            house.ask(name, 0, "near")
        await settle()
        assert len(seed.asked) == MOST_UNDER_WAY

    played(test)


def test_nobody_is_asked_for_what_he_asks_himself() -> None:
    async def test(house: House) -> None:
        one = Played(house.seeds)
        house.fetch(0, asker=one.link)
        await settle()
        assert one.names == []
        assert house.others.waiting[0][0] == NAMES[0]
        two = Played(house.seeds)
        house.fetch(1, asker=one.link)
        await settle()
        assert (one.names, two.names) == ([], [NAMES[1]])

    played(test)


@pytest.mark.parametrize("block", [BLOCKS[1], LARGE_BLOCKS[0], b"short"])
def test_whoever_gives_a_wrong_block_is_told_so_and_rests(block: bytes) -> None:
    async def test(house: House) -> None:
        bad, good = Played(house.seeds), Played(house.seeds)
        house.fetch(0, 1)
        await settle()
        bad.say(Code.CONTENT, block)
        await settle()
        abort = bad.asked[-1]
        assert (abort.code, abort.payload) == (Code.ABORT, b"a block was wrong")
        assert bad.transport.is_closing()
        assert sorted(good.names) == sorted(NAMES[:2])
        good.answer()
        await settle()
        assert (house.result(0), house.result(1)) == (made(0), made(1))
        assert (len(house.seeds), house.seeds.counts.wrong) == (1, 1)
        with pytest.raises(StoreUnavailable, match="after a minute"):
            Played(house.seeds)
        await asyncio.sleep(61)
        Played(house.seeds)

    played(test)


def test_one_that_goes_in_the_middle_costs_nothing_but_the_way_to_others() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, 1)
        await settle()
        seed.answer(1)
        seed.go()
        await settle()
        assert house.result(0) == made(0)
        assert [item[0] for item in house.others.waiting] == [NAMES[1]]
        assert len(house.seeds) == 0
        house.fetch(2)
        assert [item[0] for item in house.others.waiting] == [NAMES[1], NAMES[2]]

    played(test)


def test_one_that_says_that_it_ends_gives_what_it_owes_and_is_asked_no_more() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0)
        await settle()
        seed.link.data_received(format_message(Code.RELEASE))
        house.fetch(1)
        seed.answer()
        await settle()
        assert house.result(0) == made(0)
        assert [item[0] for item in house.others.waiting] == [NAMES[1]]
        assert seed.transport.is_closing()

    played(test)


def test_while_one_is_quiet_others_are_asked_beside_and_the_first_to_give_it_is_taken() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, 1)
        await asyncio.sleep(QUIET_S - STEP_S)
        assert house.others.waiting == []
        await asyncio.sleep(2 * STEP_S)
        assert [item[0] for item in house.others.waiting] == NAMES[:2]
        # One thing more is asked of it, to try it, and peers at once.
        house.fetch(2, 3)
        await settle()
        assert (seed.names, len(house.others.waiting)) == (NAMES[:3], 4)
        found = Found(BLOCKS[0], False, "desktop")
        house.others.say(found)
        assert house.result(0) == found
        seed.answer()
        await settle()
        assert (house.result(1), house.result(2)) == (made(1), made(2))
        # It is back, and what waited for it is asked.
        assert seed.names == [NAMES[3]]
        seed.answer()
        await settle()
        assert house.result(3) == made(3)
        # What peers say now comes too late.
        for number in (1, 2, 3):
            house.others.say(BlockNotFound(NAMES[number]))

    played(test)


def test_one_block_that_takes_long_holds_up_no_other() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, hops=0)
        await settle()
        slow = seed.asked.pop(0)
        for number in range(1, 6):
            # Each time it has been quiet for a while.
            await asyncio.sleep(2 * QUIET_S)
            house.fetch(number, hops=0)
            await settle()
            seed.answer()
            await settle()
            assert house.result(number) == made(number)
        # What comes together waits for the first of it, and goes then.
        await asyncio.sleep(2 * QUIET_S)
        house.fetch(*range(6, 20), hops=0)
        await settle()
        assert len(seed.asked) == 1
        seed.answer()
        await settle()
        assert len(seed.asked) == 13
        seed.answer()
        await settle()
        assert all(house.result(number) == made(number) for number in range(6, 20))
        seed.asked.append(slow)
        seed.answer()
        await settle()
        assert house.result(0) == made(0)

    played(test)


def test_two_blocks_that_take_long_hold_up_others_for_a_moment() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, hops=0)
        await asyncio.sleep(2 * QUIET_S)
        house.fetch(1, 2, hops=0)
        await settle()
        assert seed.names == NAMES[:2]
        # The one that waits is asked, too, without an answer to those.
        await asyncio.sleep(QUIET_S + STEP_S)
        assert seed.names == NAMES[:3]

    played(test)


def test_what_peers_have_not_is_still_waited_for_while_it_may_come() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0)
        await asyncio.sleep(1)
        house.others.say(BlockNotFound(NAMES[0]))
        assert house.result(0) is None
        seed.answer()
        await settle()
        assert house.result(0) == made(0)

    played(test)


def test_one_that_stays_quiet_is_away_and_nobody_waits_for_it() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, hops=0)
        house.fetch(1)
        await asyncio.sleep(1)
        house.others.say(StoreUnavailable("it does not answer"))
        await asyncio.sleep(AWAY_S - 1 + STEP_S)
        assert isinstance(house.result(0), BlockNotFound)
        assert isinstance(house.result(1), StoreUnavailable)
        house.fetch(2, hops=0)
        assert isinstance(house.result(2), BlockNotFound)
        await asyncio.sleep(1)
        # One question tries it, and is not waited for.
        house.fetch(3, 4)
        await settle()
        assert seed.names[2:] == [NAMES[3]]
        assert {item[0] for item in house.others.waiting} == {NAMES[3], NAMES[4]}
        for _ in range(3):
            seed.answer(1)
        await settle()
        assert house.result(3) == made(3)
        house.fetch(5)
        await settle()
        assert seed.names == [NAMES[5]]

    played(test)


def test_one_block_that_takes_long_is_asked_of_others_though_the_seed_is_well() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0)
        await settle()
        seed.asked.pop(0)
        for step in range(120):
            house.ask(Reference(bytes([step]) * 32), 0, "other")
            await asyncio.sleep(STEP_S)
            seed.answer()
            await settle()
            if step == 10:
                assert house.others.waiting == []
            if step == 30:
                assert [item[0] for item in house.others.waiting] == [NAMES[0]]
                house.others.say(BlockNotFound(NAMES[0]))
                assert house.result(0) is None
        # After ten seconds nobody waits for it any more.
        assert isinstance(house.result(0), BlockNotFound)

    played(test)


def test_whoever_leaves_waits_for_nothing() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0, asker="one")
        house.fetch(1, asker="other")
        await settle()
        house.reach.leave("one")
        assert isinstance(house.result(0), StoreUnavailable)
        # Others than seeds were not asked for it, and need not be told.
        assert house.others.left == []
        seed.answer()
        await settle()
        assert house.result(1) == made(1)
        assert house.others.waiting == []

    played(test)


def test_peers_are_told_of_those_who_leave_on_whose_behalf_they_were_asked() -> None:
    async def test(house: House) -> None:
        house.fetch(0, asker="before there was a seed")
        seed = Played(house.seeds, [])
        house.fetch(1, asker="one")
        house.fetch(2, asker="stays here", hops=0)
        await settle()
        seed.answer()
        await settle()
        for asker in ("before there was a seed", "one", "stays here", "never asked"):
            house.reach.leave(asker)
        assert house.others.left == ["before there was a seed", "one"]
        assert [type(house.result(number)) for number in (0, 1)] == [StoreUnavailable] * 2

    played(test)


def test_without_seeds_and_peers_there_is_nobody_to_ask() -> None:
    async def test(house: House) -> None:
        assert not house.reach.reaches(4)
        seed = Played(house.seeds)
        assert house.reach.reaches(0)
        house.fetch(0)
        await settle()
        seed.answer()
        await settle()
        assert house.result(0) == made(0)
        seed.go()
        await settle()
        assert not house.reach.reaches(4)

    played(test, with_others=False)


def test_as_the_daemon_stops_nothing_is_said_of_what_a_seed_did_not_bring() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds)
        house.fetch(0)
        await settle()
        house.reach.stop()
        seed.link.finish()
        await settle()
        assert isinstance(house.result(0), Leaving)

    played(test, with_others=False)


def test_which_blocks_there_are_is_asked_of_all_seeds_and_the_rest_of_peers() -> None:
    async def test(house: House) -> None:
        one, two = Played(house.seeds), Played(house.seeds)
        house.near.add("near")
        asking = asyncio.ensure_future(house.reach.find(NAMES[:4], 3, "near"))
        await settle()
        (first,), (second,) = one.asked, two.asked
        assert first.code == second.code == Code.FETCH
        assert [number for number, _ in first.options] == [11, 11, 11, HOP_LIMIT, NEAR]
        assert first.payload == b"".join(NAMES[:4])
        one.say(Code.CONTENT, pack_bitmap([True, False, False, False]))
        two.say(Code.CONTENT, pack_bitmap([False, True, False, False]))
        assert await asking == [True] * 4
        assert house.others.sought == [NAMES[2:4]]
        # Not of peers, where a request ends here.
        asking = asyncio.ensure_future(house.reach.find(NAMES[:2], 0, "far"))
        await settle()
        one.say(Code.CONTENT, b"too long a bitmap")
        two.say(Code.NOT_FOUND)
        assert await asking == [False, False]
        assert len(house.others.sought) == 1

    played(test)


def test_one_that_does_not_tell_is_not_waited_for() -> None:
    async def test(house: House) -> None:
        one, two = Played(house.seeds), Played(house.seeds)
        asking = asyncio.ensure_future(house.reach.find(NAMES[:1], 0, "x"))
        await settle()
        two.say(Code.CONTENT, pack_bitmap([True]))
        before = asyncio.get_running_loop().time()
        assert await asking == [True]
        assert asyncio.get_running_loop().time() - before < 2 * QUIET_S
        # It is quiet from then on, and may be tried by one question more.
        await asyncio.sleep(STEP_S)
        for _ in range(2):
            asking = asyncio.ensure_future(house.reach.find(NAMES[:1], 0, "x"))
            await settle()
            two.say(Code.CONTENT, pack_bitmap([True]))
            assert await asking == [True]
        assert 2 <= len(one.asked) <= 3

    played(test)


def test_what_a_seed_has_not_said_is_no_no() -> None:
    async def test(house: House) -> None:
        one, two = Played(house.seeds), Played(house.seeds)
        asking = asyncio.ensure_future(house.reach.find(NAMES[:2], 0, "peer"))
        await settle()
        two.say(Code.CONTENT, pack_bitmap([False, True]))
        with pytest.raises(StoreUnavailable, match="not all seeds"):
            await asking
        # Of one that has no room, too.
        one.answer()
        await settle()
        for name in unknown(MOST_UNDER_WAY):
            house.ask(name, 0, "much")
        for name in unknown(2 * MOST_UNDER_WAY)[MOST_UNDER_WAY:]:
            house.near.add("near")
            house.ask(name, 0, "near")
        with pytest.raises(StoreUnavailable, match="not all seeds"):
            await house.reach.find(NAMES[:2], 0, two.link)
        # One that is away is not waited for.
        await asyncio.sleep(AWAY_S + STEP_S)
        assert await house.reach.find(NAMES[:2], 0, two.link) == [False, False]

    played(test)


def test_who_may_be_one() -> None:
    async def test(house: House) -> None:
        house.seeds.settle([])
        with pytest.raises(StoreRefused, match="seed-users"):
            Played(house.seeds)
        with pytest.raises(StoreRefused, match="connect to the Unix socket"):
            house.seeds.enter(connected(), None)
        for uid in (0, os.geteuid()):
            Played(house.seeds, uid=uid)
        house.seeds.settle([USER])
        seed = Played(house.seeds)
        # Once more is nothing.
        house.seeds.enter(seed.link, USER)
        assert len(house.seeds) == 3
        for _ in range(MOST_OF_ONE_USER - 1):
            Played(house.seeds)
        with pytest.raises(StoreUnavailable, match="4 seeds of this user already"):
            Played(house.seeds)
        others = range(USER + 1, USER + MOST_SEEDS)
        house.seeds.settle([USER, *others])
        while len(house.seeds) < MOST_SEEDS:
            Played(house.seeds, uid=others[len(house.seeds) - MOST_OF_ONE_USER])
        with pytest.raises(StoreUnavailable, match="16 seeds already"):
            Played(house.seeds, uid=others[-1])
        assert house.seeds.counts.refused == 4

    played(test)


def test_who_may_be_none_any_more_is_sent_away() -> None:
    async def test(house: House) -> None:
        mine, other = Played(house.seeds, uid=os.geteuid()), Played(house.seeds)
        house.seeds.settle([])
        await settle()
        assert other.asked[-1].code == Code.ABORT
        assert b"seed-users" in other.asked[-1].payload
        assert (len(house.seeds), mine.transport.is_closing()) == (1, False)

    played(test)


def test_a_connection_that_ends_is_none() -> None:
    async def test(house: House) -> None:
        link = connected()
        link.end()
        with pytest.raises(StoreUnavailable, match="about to end"):
            house.seeds.enter(link, USER)
        with pytest.raises(StoreUnavailable, match="about to end"):
            house.seeds.enter(Link(), USER)

    played(test)


def connected() -> Link:
    link = Link()
    link.connection_made(FakeTransport(link))
    return link


def test_nothing_is_left_when_all_is_over() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds, BLOCKS[:10])
        house.fetch(*range(20), asker="x")
        await settle()
        seed.answer()
        await settle()
        house.reach.leave("x")
        seed.go()
        await asyncio.sleep(1)
        assert house.seeds._open == {}
        assert house.seeds._timer is None
        assert house.reach._askers == {}

    played(test)


def test_one_that_has_nothing_of_late_is_asked_about_many_blocks_together() -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds, [BLOCKS[20]])
        house.near.add("near")
        house.fetch(*range(8), hops=0)
        await settle()
        seed.answer()
        await settle()
        house.fetch(*range(8, 22), hops=0)
        house.fetch(22, 23, hops=0, asker="near")
        await settle()
        near, far = seed.asked
        assert (near.code, far.code) == (Code.FETCH, Code.FETCH)
        assert near.payload == b"".join(NAMES[22:24])
        assert far.payload == b"".join(NAMES[8:22])
        seed.say(Code.CONTENT, pack_bitmap([False, False]))
        seed.say(Code.CONTENT, pack_bitmap([number == 20 for number in range(8, 22)]))
        await settle()
        assert seed.names == [NAMES[20]]
        assert [type(house.result(number)) for number in (8, 19, 21, 23)] == [BlockNotFound] * 4
        seed.answer()
        await settle()
        assert house.result(20) == made(20)
        # Now it has something.
        house.fetch(30, 31)
        await settle()
        assert seed.names == [NAMES[30], NAMES[31]]
        assert house.seeds.counts.asked == 26

    played(test)


@pytest.mark.parametrize("how", ["refuses", "is quiet", "goes"])
def test_one_that_does_not_tell_about_many_is_passed_over(how: str) -> None:
    async def test(house: House) -> None:
        seed = Played(house.seeds, [])
        house.fetch(*range(8), hops=0)
        await settle()
        seed.answer()
        await settle()
        house.fetch(8, 9)
        await settle()
        assert [message.code for message in seed.asked] == [Code.FETCH]
        if how == "refuses":
            seed.say(Code.METHOD_NOT_ALLOWED)
        elif how == "goes":
            seed.go()
        await asyncio.sleep(1)
        assert [item[0] for item in house.others.waiting] == NAMES[8:10]
        if how == "is quiet":
            seed.say(Code.CONTENT, pack_bitmap([True, True]))
            await settle()
            assert seed.names == NAMES[8:10]

    played(test)

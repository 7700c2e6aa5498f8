"""What is not here comes from peers: shared, kept, told once to each, and nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from eris import reference_of
from eris.errors import BlockNotFound, StoreUnavailable
from kapla.coap.beyond import Found, Leaving
from kapla.coap.link import Link
from kapla.identity.key import PeerKey
from tests.kapla.peers.meeting import Far, Near, block, played, until

BLOCKS = [block(number) for number in range(200)]
NAMES = [reference_of(one) for one in BLOCKS]


def test_what_a_peer_has_is_given_and_kept_as_it_may_be_given_on() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS)
        far.storage.lent = set(NAMES[::3])
        await near.reach(0, far)
        asker = near.asker()
        asker.ask_all(BLOCKS)
        await asker.all_told()
        await asyncio.sleep(1)
        assert sorted(asker.got) == BLOCKS
        assert near.store.kept == {
            name: (one, number % 3 == 0)
            for number, (name, one) in enumerate(zip(NAMES, BLOCKS, strict=True))
        }
        asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)


def test_several_who_want_the_same_have_it_fetched_once_though_the_first_leaves() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS, hold=True)
        await near.reach(0, far)
        askers = [near.asker() for _ in range(5)]
        for asker in askers:
            asker.ask_all(BLOCKS)
        await until(lambda: far.asked > 0)
        askers[0].leave()
        askers[3].leave()
        await _delivered(far, lambda: all(askers[4].told.values()))
        for asker in askers[1], askers[2], askers[4]:
            assert sorted(asker.got) == BLOCKS
        for asker in askers[0], askers[3]:
            assert asker.lacks == [StoreUnavailable] * len(BLOCKS)
        assert far.asked == len(BLOCKS)
        for asker in askers:
            asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)


async def _delivered(far: Far, is_over: Callable[[], bool]) -> None:
    def deliver() -> bool:
        far.storage.deliver()
        return is_over()

    await until(deliver)


@pytest.mark.parametrize("hops", [4, 1])
def test_what_nobody_has_is_not_found_and_that_is_remembered_for_a_moment(hops: int) -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS[:1])
        await near.reach(0, far)
        asker = near.asker()
        asker.ask(NAMES[5], hops)
        await asker.all_told()
        assert asker.lacks == [BlockNotFound]
        asked = far.asked
        again = near.asker()
        again.ask(NAMES[5], hops)
        assert again.lacks == [BlockNotFound]
        assert far.asked == asked
        far.storage.blocks[NAMES[5]] = BLOCKS[5]
        await asyncio.sleep(1.1)
        later = near.asker()
        later.ask(NAMES[5], hops)
        await later.all_told()
        assert later.got == [BLOCKS[5]]

    played(1, main)


def test_what_a_peer_brings_with_it_is_not_said_to_be_nowhere() -> None:
    async def main(near: Near) -> None:
        await near.reach(0, Far())
        asker = near.asker()
        asker.ask(NAMES[5])
        await asker.all_told()
        await near.reach(1, Far(BLOCKS))
        again = near.asker()
        again.ask(NAMES[5])
        await again.all_told()
        assert again.got == [BLOCKS[5]]

    played(2, main)


def test_one_who_asked_less_far_does_not_decide_for_one_who_asks_further() -> None:
    """What the first is told of is what its request may reach."""

    async def main(near: Near) -> None:
        far = Far(hold=True)
        await near.reach(0, far)
        short, long = near.asker(), near.asker()
        short.ask(NAMES[0], 1)
        await until(lambda: far.asked > 0)
        long.ask(NAMES[0], 4)
        await until(lambda: far.asked == 2)
        await _delivered(far, lambda: all([*short.told.values(), *long.told.values()]))
        assert short.lacks == long.lacks == [BlockNotFound]

    played(1, main)


def test_who_leaves_is_told_at_once_and_nothing_is_left() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS, hold=True)
        await near.reach(0, far)
        for number in range(300):
            asker = near.asker()
            asker.ask_all(BLOCKS[number % 150 : number % 150 + 20], 4 - number % 2)
            if number % 3:
                await asyncio.sleep(0.001)
            asker.leave()
            assert asker.lacks == [StoreUnavailable] * 20
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)


def test_a_peer_that_asks_is_never_asked_for_that_itself() -> None:
    async def main(near: Near) -> None:
        first, second = Far(BLOCKS[:100]), Far(BLOCKS[100:])
        link = await near.reach(0, first)
        await near.reach(1, second)
        asker = near.asker(link)
        asker.ask_all(BLOCKS, 3)
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS[100:]
        assert asker.lacks == [BlockNotFound] * 100
        assert first.asked == 0
        near.blocks.leave(link)
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(2, main)


def test_a_peer_that_asks_and_comes_anew_meanwhile_is_not_asked_for_it() -> None:
    """Its requests of before are still to be answered, and it is the same one."""

    async def main(near: Near) -> None:
        first, second = Far(BLOCKS), Far(hold=True)
        old = await near.reach(0, first)
        await near.reach(1, second)
        asker = near.asker(old)
        asker.ask(NAMES[0], 3)
        await asyncio.sleep(0.01)
        assert old.asking is not None
        old.asking.wind_up()
        near.table.left(old)
        await near.reach(0, first)
        await asyncio.sleep(0.01)
        assert first.asked == 0
        await _delivered(second, lambda: all(asker.told.values()))
        assert asker.lacks == [BlockNotFound]
        assert first.asked == 0
        asker.leave()

    played(2, main)


def test_two_peers_that_ask_for_the_same_do_not_wait_for_each_other() -> None:
    async def main(near: Near) -> None:
        fars = [Far(), Far()]
        links = [await near.reach(number, far) for number, far in enumerate(fars)]
        askers = [near.asker(link) for link in links]
        for asker in askers:
            asker.ask_all(BLOCKS, 3)
        near_asker = near.asker()
        near_asker.ask_all(BLOCKS)
        for asker in [*askers, near_asker]:
            await asker.all_told()
            assert asker.lacks == [BlockNotFound] * len(BLOCKS)
        for asker in [*askers, near_asker]:
            asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    assert played(2, main) < 5


def test_a_peer_that_goes_while_it_is_asked_is_replaced_or_that_is_said() -> None:
    async def main(near: Near) -> None:
        first, second = Far(BLOCKS, hold=True), Far(BLOCKS[:50])
        link = await near.reach(0, first)
        asker = near.asker()
        asker.ask_all(BLOCKS)
        await until(lambda: first.asked > 0)
        await near.reach(1, second)
        link.abort()
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS[:50]
        assert set(asker.lacks) <= {StoreUnavailable, BlockNotFound}
        asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(2, main)


@pytest.mark.parametrize("failure", [None, StoreUnavailable("the disk is full")])
def test_what_cannot_be_kept_is_given_all_the_same(failure: StoreUnavailable | None) -> None:
    blocks = [block(number, 32768) for number in range(600)]

    async def main(near: Near) -> None:
        near.store.is_slow, near.store.failure = True, failure
        far = Far(blocks)
        await near.reach(0, far)
        asker = near.asker()
        asker.ask_all(blocks)
        await until(lambda: sum(map(bool, asker.told.values())) >= 256)
        await asyncio.sleep(0.1)
        # The store is slow: the others wait for it.
        assert sum(map(bool, asker.told.values())) < 300
        leaving = near.asker()
        leaving.ask_all(blocks[300:])
        leaving.leave()
        near.store.is_slow = False
        near.store.answer()
        await asker.all_told()
        assert sorted(asker.got) == blocks
        asker.leave()
        await asyncio.sleep(1)
        assert near.left_behind() == {}
        assert near.blocks._keeper._waiting == 0

    played(1, main)


def test_a_wrong_block_is_not_kept_and_its_peer_is_left() -> None:
    async def main(near: Near) -> None:
        liar, good = Far(), Far(BLOCKS)
        liar.storage.blocks = dict.fromkeys(NAMES, block(999))
        lying = await near.reach(0, liar)
        await near.reach(1, good)
        asker = near.asker()
        asker.ask_all(BLOCKS)
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS
        await asyncio.wait([lying.closed])
        assert reference_of(block(999)) not in near.store.kept
        assert [one.standing.facts.wrong for one in near.table] == [1, 0]
        # It may come again at once, and is another one then.
        assert near.table.peers[0].link is None
        await near.reach(0, good)
        assert [
            sorted(number for number, _ in level) for level in near.blocks._levels.values()
        ] == [[0, 1]] * 4
        asker.leave()

    played(2, main)


def test_a_peer_that_asks_does_not_wait_for_one_who_does_not_answer() -> None:
    """It would take us for the one who is silent; a program of ours hopes longer."""

    async def main(near: Near) -> None:
        link = await near.reach(0, Far())
        await near.reach(1, Far(BLOCKS, hold=True))
        peer, program = near.asker(link), near.asker()
        peer.ask(NAMES[0], 3)
        program.ask(NAMES[1])
        await asyncio.sleep(1.5)
        # An error would count against us: after four of them we would be left alone.
        assert peer.lacks == [BlockNotFound]
        assert program.told == {NAMES[1]: []}
        program.leave()
        near.blocks.leave(link)

    played(2, main)


def test_presence_is_told_to_programs_by_those_who_answer_in_time() -> None:
    async def main(near: Near) -> None:
        fars = [Far(BLOCKS[:10]), Far(BLOCKS[5:20]), Far(BLOCKS, hold=True)]
        for number, far in enumerate(fars):
            await near.reach(number, far)
        told = await near.blocks.find(NAMES[:30], 4, object())
        assert told == [True] * 20 + [False] * 10

    assert 1 < played(3, main) < 5


@pytest.mark.parametrize("hops", [3, 2, 1])
def test_a_peer_that_asks_for_presence_waits_no_longer_than_it_can_and_gets_no_false_no(
    hops: int,
) -> None:
    """It would take us for dead, or what it is not told of for missing."""

    async def main(near: Near) -> None:
        asker = await near.reach(0, Far())
        await near.reach(1, Far(BLOCKS[:10]))
        assert await near.blocks.find(NAMES[:20], hops, asker) == [True] * 10 + [False] * 10
        await near.reach(2, Far(BLOCKS, hold=True))
        before = asyncio.get_running_loop().time()
        assert await near.blocks.find(NAMES[:10], hops, asker) == [True] * 10
        with pytest.raises(StoreUnavailable):
            await near.blocks.find(NAMES[:20], hops, asker)
        assert asyncio.get_running_loop().time() - before < 0.4

    played(3, main)


def test_presence_is_not_asked_of_who_asks() -> None:
    async def main(near: Near) -> None:
        first, second = Far(BLOCKS), Far(BLOCKS[:10])
        link: Link = await near.reach(0, first)
        await near.reach(1, second)
        assert await near.blocks.find(NAMES[:30], 3, link) == [True] * 10 + [False] * 20
        assert not first.storage.batches

    played(2, main)


def test_what_is_not_kept_yet_is_here() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS)
        far.storage.lent = {NAMES[0]}
        await near.reach(0, far)
        near.store.is_slow = True
        first, second = near.asker(), near.asker()
        first.ask_all(BLOCKS[:2])
        await first.all_told()
        await asyncio.sleep(0.1)
        second.ask_all(BLOCKS[:2])
        assert second.results() == [Found(BLOCKS[0], True, "here"), Found(BLOCKS[1], False, "here")]
        near.store.is_slow = False
        near.store.answer()

    played(1, main)


def test_what_is_wanted_before_peers_were_tried_waits_for_that() -> None:
    async def main(near: Near) -> None:
        tried = asyncio.Event()
        near.blocks.begin(tried.wait)
        asker, leaving = near.asker(), near.asker()
        asker.ask_all(BLOCKS)
        leaving.ask_all(BLOCKS)
        await asyncio.sleep(1)
        assert not any(asker.told.values())
        leaving.leave()
        assert leaving.lacks == [StoreUnavailable] * len(BLOCKS)
        await near.reach(0, Far(BLOCKS[:100]))
        tried.set()
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS[:100]
        asker.leave()

    played(1, main)


def test_who_is_there_is_asked_before_all_were_tried_and_only_a_no_waits() -> None:
    async def main(near: Near) -> None:
        tried = asyncio.Event()
        near.blocks.begin(tried.wait)
        await near.reach(0, Far(BLOCKS[:50]))
        asker = near.asker()
        asker.ask_all(BLOCKS[:100])
        await asyncio.sleep(1)
        assert [name for name, told in asker.told.items() if told] == NAMES[:50]
        await near.reach(1, Far(BLOCKS[50:90]))
        tried.set()
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS[:90]
        assert asker.lacks == [BlockNotFound] * 10
        asker.leave()

    played(2, main)


def test_it_is_not_waited_for_long_and_not_at_all_by_peers_or_at_the_end() -> None:
    async def main(near: Near) -> None:
        near.blocks.begin(lambda: asyncio.sleep(1000))
        link = await near.reach(0, Far())
        peer, asker = near.asker(link), near.asker()
        peer.ask(NAMES[0], 3)
        assert peer.lacks == [BlockNotFound]
        asker.ask(NAMES[0])
        await asker.all_told()
        assert asker.lacks == [BlockNotFound]
        near.blocks.begin(lambda: asyncio.sleep(1000))
        later = near.asker()
        later.ask(NAMES[1])
        near.blocks.stop()
        await later.all_told()

    assert 2 < played(1, main) < 20


def test_a_daemon_that_has_let_its_peers_go_does_not_say_that_nobody_has_a_block() -> None:
    async def main(near: Near) -> None:
        near.blocks.stop()
        asker = near.asker()
        asker.ask(NAMES[0])
        assert asker.lacks == [Leaving]

    played(1, main)


def test_at_the_end_what_was_gathered_is_kept() -> None:
    async def main(near: Near) -> None:
        await near.reach(0, Far(BLOCKS))
        asker = near.asker()
        asker.ask(NAMES[0])
        for _ in range(1000):
            if not all(asker.told.values()):
                await asyncio.sleep(0)
        near.blocks.close()
        assert set(near.store.kept) == {NAMES[0]}

    played(1, main)


def test_the_only_peer_that_is_dialled_anew_is_waited_for_a_moment() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS, hold=True)
        link = await near.reach(0, far)
        asker, leaving = near.asker(), near.asker()
        asker.ask_all(BLOCKS[:100])
        leaving.ask_all(BLOCKS[:50])
        await until(lambda: far.asked > 0)
        link.abort()
        await asyncio.sleep(0.5)
        asker.ask_all(BLOCKS[100:])
        assert not any(asker.told.values())
        leaving.leave()
        assert leaving.lacks == [StoreUnavailable] * 50
        await near.reach(0, Far(BLOCKS))
        await asker.all_told()
        assert sorted(asker.got) == BLOCKS
        asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)


def test_the_only_peer_that_does_not_come_back_is_given_up() -> None:
    async def main(near: Near) -> None:
        far = Far(BLOCKS, hold=True)
        link = await near.reach(0, far)
        asker = near.asker()
        asker.ask_all(BLOCKS)
        await until(lambda: far.asked > 0)
        link.abort()
        await asker.all_told()
        assert set(asker.lacks) <= {BlockNotFound, StoreUnavailable}
        assert len(asker.lacks) == len(BLOCKS)
        asker.leave()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)


def test_one_that_was_found_is_asked_for_programs_here_and_not_for_peers() -> None:
    async def main(near: Near) -> None:
        link = await near.reach(0, Far())
        found, far = near.table.found(PeerKey(bytes(32))), Far(BLOCKS)
        await near.reach(1, far)
        passing_on = near.asker(link)
        passing_on.ask_all(BLOCKS[:10], 3)
        await passing_on.all_told()
        assert passing_on.lacks == [BlockNotFound] * 10
        assert await near.blocks.find(NAMES[:10], 3, link) == [False] * 10
        assert far.asked == 0
        program = near.asker()
        assert await near.blocks.find(NAMES[:10], 4, program) == [True] * 10
        program.ask_all(BLOCKS[:10])
        await program.all_told()
        assert sorted(program.got) == BLOCKS[:10]
        for asker in program, passing_on:
            asker.leave()
        near.table.lost(found)
        assert near.table.found_numbers == frozenset()
        await asyncio.sleep(0)
        assert near.left_behind() == {}

    played(1, main)

"""A peer is asked about each block once at a time, however many want to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import pytest

from eris import Reference
from eris.errors import StoreRefused
from kapla.peers import telling
from kapla.peers.telling import Telling

A, B, C, D = (Reference(bytes([number]) * 32) for number in range(4))


class Peer:
    """Has A and B; answers when the test says."""

    def __init__(self) -> None:
        self.asked: list[list[Reference]] = []
        self.cancelled = 0
        self.error: Exception | None = None
        self.answers = asyncio.Event()

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        self.asked.append(list(references))
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return [name in (A, B) for name in references]


def run(test: Callable[[Peer, Telling], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        peer = Peer()
        async with asyncio.timeout(20):
            await test(peer, Telling(peer.find))
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def begun(*questions: Coroutine[None, None, list[bool]]) -> list[asyncio.Task[list[bool]]]:
    tasks = [asyncio.ensure_future(one) for one in questions]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def test_questions_about_the_same_blocks_are_one() -> None:
    async def test(peer: Peer, telling: Telling) -> None:
        tasks = await begun(
            telling.find([A, C]), telling.find([C, A]), telling.find([C, B, D]), telling.find([A])
        )
        peer.answers.set()
        assert [await one for one in tasks] == [
            [True, False],
            [False, True],
            [False, True, False],
            [True],
        ]
        assert peer.asked == [[A, C], [B, D]]

    run(test)


def test_that_something_is_missing_is_remembered_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(peer: Peer, telling_: Telling) -> None:
        peer.answers.set()
        assert await telling_.find([A, C]) == [True, False]
        assert await telling_.find([C, A]) == [False, True]
        assert await telling_.find([C]) == [False]
        assert peer.asked == [[A, C], [A]]

    run(test)
    monkeypatch.setattr(telling, "_MISSING_S", 0.0)

    async def later(peer: Peer, telling_: Telling) -> None:
        peer.answers.set()
        assert await telling_.find([C]) == await telling_.find([C]) == [False]
        assert peer.asked == [[C], [C]]

    run(later)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_MOST_REMEMBERED", 2)

    async def test(peer: Peer, telling_: Telling) -> None:
        peer.answers.set()
        names = [Reference(bytes([number]) * 32) for number in range(10, 20)]
        assert await telling_.find(names) == [False] * 10
        assert await telling_.find(names[-3:]) == [False] * 3
        assert peer.asked == [names, names[-3:-2]]

    run(test)


def test_who_gives_up_does_not_take_the_answer_from_others() -> None:
    async def test(peer: Peer, telling: Telling) -> None:
        first, second = await begun(telling.find([A]), telling.find([A]))
        first.cancel()
        await asyncio.wait([first])
        peer.answers.set()
        assert await second == [True]
        assert (peer.asked, peer.cancelled) == ([[A]], 0)

    run(test)


def test_what_nobody_waits_for_is_given_up_and_asked_anew() -> None:
    async def test(peer: Peer, telling: Telling) -> None:
        tasks = await begun(telling.find([A]), telling.find([A]))
        for one in tasks:
            one.cancel()
        # In the same turn as the last one gives up.
        await asyncio.wait(tasks)
        peer.answers.set()
        assert await telling.find([A]) == [True]
        assert (peer.asked, peer.cancelled) == ([[A], [A]], 1)

    run(test)


def test_an_error_is_told_to_all_and_not_remembered() -> None:
    async def test(peer: Peer, telling: Telling) -> None:
        tasks = await begun(telling.find([A]), telling.find([A, C]))
        peer.error = StoreRefused("no")
        peer.answers.set()
        for one in tasks:
            with pytest.raises(StoreRefused):
                await one
        peer.error = None
        assert await telling.find([A, C]) == [True, False]

    run(test)

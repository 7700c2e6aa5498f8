"""Work under way for a peer: however a piece of it ends, it ends once, and is counted so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kapla.coap.under_way import UnderWay


class Peer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.counts: list[tuple[int, int]] = []
        self.under_way = UnderWay(self._ended)

    def _ended(self) -> None:
        self.counts.append((self.under_way.requests, self.under_way.weight))


def test_a_list_is_under_way_until_the_store_calls_back() -> None:
    peer, held = Peer(), list[Callable[[str], None]]()
    peer.under_way.hand_on(3, 7, held.append, peer.answers.append)
    peer.under_way.hand_on(2, 1, held.append, peer.answers.append)
    assert (peer.under_way.requests, peer.under_way.weight) == (5, 8)
    held[0]("first")
    held[1]("second")
    assert peer.answers == ["first", "second"]
    assert peer.counts == [(2, 1), (0, 0)]


def test_a_store_that_answers_at_once() -> None:
    peer = Peer()
    peer.under_way.hand_on(1, 1, lambda done: done("now"), peer.answers.append)
    assert peer.answers == ["now"]
    assert peer.counts == [(0, 0)]


def test_a_store_that_answers_twice() -> None:
    peer, held = Peer(), list[Callable[[str], None]]()
    peer.under_way.hand_on(3, 7, held.append, peer.answers.append)
    held[0]("first")
    held[0]("again")
    assert peer.answers == ["first"]
    assert peer.counts == [(0, 0)]


def test_a_store_that_fails_at_once() -> None:
    def start(done: Callable[[str], None]) -> None:
        raise MemoryError

    peer = Peer()
    with pytest.raises(MemoryError):
        peer.under_way.hand_on(3, 7, start, peer.answers.append)
    assert peer.counts == [(0, 0)]


def test_an_answer_that_cannot_be_given() -> None:
    def answer(result: str) -> None:
        raise ValueError

    peer, held = Peer(), list[Callable[[str], None]]()
    peer.under_way.hand_on(3, 7, held.append, answer)
    with pytest.raises(ValueError):
        held[0]("result")
    assert peer.counts == [(0, 0)]


async def work(steps: int, end: BaseException | None = None) -> str:
    for _ in range(steps):
        await asyncio.sleep(0)
    if end is not None:
        raise end
    return "done"


@pytest.mark.parametrize("cancelled_after", range(6))
def test_a_task_that_is_cancelled_at_any_moment(cancelled_after: int) -> None:
    """Before its first step too: it never runs then, and no line of its own is of use."""

    async def run() -> Peer:
        peer = Peer()
        before = asyncio.all_tasks()
        peer.under_way.run(work(3), 5, peer.answers.append)
        assert (peer.under_way.requests, peer.under_way.weight) == (1, 5)
        (task,) = asyncio.all_tasks() - before
        for _ in range(cancelled_after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return peer

    peer = asyncio.run(run())
    assert peer.counts == [(0, 0)]
    assert peer.answers == ["done" if cancelled_after > 3 else None]


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), MemoryError()])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_task_that_fails(error: BaseException, steps: int) -> None:
    async def run() -> Peer:
        peer = Peer()
        peer.under_way.run(work(steps, error), 5, peer.answers.append)
        for _ in range(steps + 4):
            await asyncio.sleep(0)
        return peer

    peer = asyncio.run(run())
    assert peer.counts == [(0, 0)]
    assert peer.answers == [None]


def test_what_a_task_fails_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    test_a_task_that_fails(ValueError("so it is"), 0)
    assert "so it is" in caplog.text


def test_a_task_whose_answer_cannot_be_given() -> None:
    def answer(result: str | None) -> None:
        raise ValueError

    async def run() -> tuple[Peer, list[dict[str, Any]]]:
        peer, told = Peer(), list[dict[str, Any]]()
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        peer.under_way.run(work(1), 5, answer)
        for _ in range(5):
            await asyncio.sleep(0)
        return peer, told

    peer, told = asyncio.run(run())
    assert peer.counts == [(0, 0)]
    assert isinstance(told[0]["exception"], ValueError)

"""Groups in turn, and in each the order of arrival."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapla.storage.backlog import Backlog
from kapla.storage.worker import Worker, always
from tests.integration.daemon import GUARD_S


def drain(backlog: Backlog[str]) -> list[str]:
    taken = []
    while backlog:
        taken.append(backlog.take())
    return taken


def test_one_group_is_served_in_order() -> None:
    backlog: Backlog[str] = Backlog()
    for item in "abc":
        backlog.add("group", item, 5)
    assert drain(backlog) == ["a", "b", "c"]


def test_groups_take_turns_however_much_one_has() -> None:
    backlog: Backlog[str] = Backlog()
    for number in range(100):
        backlog.add("crowd", f"crowd {number}", 1)
    backlog.add("one", "one 0", 1)
    backlog.add("one", "one 1", 1)
    assert drain(backlog)[:4] == ["crowd 0", "one 0", "crowd 1", "one 1"]


def test_turns_are_counted_by_size() -> None:
    backlog: Backlog[str] = Backlog()
    for _ in range(3):
        backlog.add("large", "large", 100)
    for _ in range(120):
        backlog.add("small", "small", 1)
    taken = drain(backlog)
    first, second = (i for i, item in enumerate(taken[:110]) if item == "large")
    assert 90 <= second - first <= 110


def test_who_was_away_has_saved_up_nothing() -> None:
    backlog: Backlog[str] = Backlog()
    for _ in range(1000):
        backlog.add("busy", "busy", 1)
        backlog.take()
    for _ in range(10):
        backlog.add("busy", "busy", 1)
        backlog.add("new", "new", 1)
    assert drain(backlog)[:6].count("new") == 3


def test_nothing_to_take() -> None:
    with pytest.raises(ValueError):
        Backlog[str]().take()


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 9)))))
def test_everything_comes_out_once_in_the_order_of_its_group(
    steps: list[tuple[int, int] | None],
) -> None:
    backlog: Backlog[tuple[int, int]] = Backlog()
    waiting: dict[int, list[tuple[int, int]]] = {}
    for number, step in enumerate(steps):
        if step is not None:
            group, size = step
            backlog.add(group, (group, number), size)
            waiting.setdefault(group, []).append((group, number))
        elif any(waiting.values()):
            item = backlog.take()
            assert waiting[item[0]].pop(0) == item
        assert bool(backlog) == any(waiting.values())


def test_a_crowd_keeps_no_other_group_waiting() -> None:
    """What was handed in by a hundred before is not done before what comes from one after."""
    begun, go_on = threading.Event(), threading.Event()

    def work(batch: list[list[str]]) -> list[object]:
        begun.set()
        assert go_on.wait(GUARD_S)
        return list(batch)

    async def run() -> list[object]:
        answers: list[object] = []
        worker: Worker[list[str]] = Worker("worker", 1, work, lambda: None, lambda: None)
        await worker.start()
        for number in range(100):
            worker.submit([f"crowd {number}"], answers.append, always, "crowd")
        assert await asyncio.to_thread(begun.wait, GUARD_S)
        worker.submit(["one"], answers.append, always, "one")
        go_on.set()
        await worker.stop()
        return answers

    answers = asyncio.run(run())
    assert len(answers) == 101
    assert answers.index(["one"]) <= 2
    crowd = [answer for answer in answers if answer != ["one"]]
    assert crowd == [[f"crowd {number}"] for number in range(100)]

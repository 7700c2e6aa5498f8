"""A coroutine whose first step is done at once is otherwise like any other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from kapla.coap.steps import Begun


async def work(waits: int, end: BaseException | None = None, log: list[str] | None = None) -> str:
    try:
        for _ in range(waits):
            await asyncio.sleep(0)
        if end is not None:
            raise end
        return "result"
    finally:
        if log is not None:
            log.append("ended")


async def finish(begun: Begun[str]) -> str:
    return await begun


def test_what_does_not_wait_is_done_at_once() -> None:
    begun = Begun(work(0), nullcontext())
    assert begun.done
    assert begun.result == "result"


def test_what_fails_at_once_fails_at_once() -> None:
    with pytest.raises(ValueError):
        Begun(work(0, ValueError()), nullcontext())


@pytest.mark.parametrize("waits", [1, 2, 5])
def test_the_rest_is_done_by_a_task(waits: int) -> None:
    async def run() -> None:
        begun = Begun(work(waits), nullcontext())
        assert not begun.done
        assert await asyncio.ensure_future(finish(begun)) == "result"

    asyncio.run(run())


def test_what_is_waited_for_may_be_there_before_the_task_is() -> None:
    async def wait(future: asyncio.Future[str]) -> str:
        return await future

    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        begun = Begun(wait(future), nullcontext())
        future.set_result("early")
        await asyncio.sleep(0)
        assert await asyncio.ensure_future(finish(begun)) == "early"

    asyncio.run(run())


def test_a_failure_after_a_while() -> None:
    async def run() -> None:
        with pytest.raises(ValueError):
            await asyncio.ensure_future(finish(Begun(work(2, ValueError()), nullcontext())))

    asyncio.run(run())


@pytest.mark.parametrize("after", range(5))
def test_a_cancellation_at_any_moment_ends_the_work(after: int) -> None:
    async def run() -> list[str]:
        log: list[str] = []
        task = asyncio.ensure_future(finish(Begun(work(3, log=log), nullcontext())))
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (after < 4)
        del task
        return log

    assert asyncio.run(run()) == ["ended"]


class Held:
    """Something large that the work has."""


@contextmanager
def no_circles_are_looked_for() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("end", [None, ValueError()])
def test_work_that_was_broken_off_holds_nothing(end: Exception | None) -> None:
    held: list[weakref.ref[Held]] = []

    async def hold() -> str:
        large = Held()
        held.append(weakref.ref(large))
        return await work(2, end)

    async def run() -> None:
        task = asyncio.ensure_future(finish(Begun(hold(), nullcontext())))
        await asyncio.sleep(0)
        if end is None:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is end
        if end is not None:
            end.__traceback__ = None

    with no_circles_are_looked_for():
        asyncio.run(run())
        assert held[0]() is None


def test_each_step_is_done_inside_the_context() -> None:
    inside: list[bool] = []
    steps: list[bool] = []

    class Steps:
        def __enter__(self) -> None:
            steps.append(True)

        def __exit__(self, *details: object) -> None:
            steps.append(False)

    async def look() -> None:
        inside.append(steps[-1])
        await asyncio.sleep(0)
        inside.append(steps[-1])

    async def run() -> None:
        begun = Begun(look(), Steps())
        assert steps == [True, False]
        await begun

    asyncio.run(run())
    assert inside == [True, True]
    assert steps == [True, False, True, False]

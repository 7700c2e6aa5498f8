"""The queue of jobs: bounded, without duplicates, patient with what fails."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from guix_glue.errors import UnsupportedItem
from guix_glue.publish.queue import JobQueue, TryLater
from guix_glue.servers.complaints import Complaints
from tests.clocks import run_without_waiting


@asynccontextmanager
async def queue_of(
    do: Callable[[int], Awaitable[None]], *, workers: int = 2, length: int = 100
) -> AsyncIterator[JobQueue[int]]:
    queue = JobQueue(do, workers=workers, length=length)
    try:
        yield queue
    finally:
        await queue.close()


def test_each_job_is_done_once_at_a_time() -> None:
    async def main() -> None:
        done: list[int] = []
        go = asyncio.Event()

        async def do(job: int) -> None:
            await go.wait()
            done.append(job)

        async with queue_of(do) as queue:
            for _ in range(3):
                for job in range(5):
                    queue.want(str(job), job)
            go.set()
            await queue.idle()
            assert sorted(done) == [0, 1, 2, 3, 4]
            queue.want("0", 0)
            await queue.idle()
            assert len(done) == 6

    run_without_waiting(main)


def test_no_more_run_than_there_are_workers() -> None:
    async def main() -> None:
        running = most = 0

        async def do(job: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        async with queue_of(do, workers=3) as queue:
            for job in range(30):
                queue.want(str(job), job)
            await queue.idle()
        assert most == 3

    run_without_waiting(main)


def test_a_full_queue_leaves_jobs_out() -> None:
    async def main() -> None:
        done: list[int] = []

        async def do(job: int) -> None:
            done.append(job)

        async with queue_of(do, workers=1, length=4) as queue:
            for job in range(10):
                queue.want(str(job), job)
            await queue.idle()
            assert done == [0, 1, 2, 3]
            # Asked for again, it is done.
            queue.want("9", 9)
            await queue.idle()
            assert done[-1] == 9

    run_without_waiting(main)


def test_what_can_be_done_later_comes_back_by_itself() -> None:
    async def main() -> None:
        attempts = 0
        succeeded = asyncio.Event()

        async def do(job: int) -> None:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise TryLater
            succeeded.set()

        async with queue_of(do) as queue:
            queue.want("a", 1)
            await queue.idle()
            # Meanwhile asking does not make it sooner.
            queue.want("a", 1)
            await queue.idle()
            assert attempts == 1
            await succeeded.wait()
            assert attempts == 3

    run_without_waiting(main)


def test_what_fails_is_left_alone_and_tried_when_asked_for() -> None:
    async def main() -> None:
        attempts = 0

        async def do(job: int) -> None:
            nonlocal attempts
            attempts += 1
            raise UnsupportedItem("/gnu/store/x", "it is a socket") if attempts < 3 else KeyError

        async with queue_of(do) as queue:
            loop = asyncio.get_running_loop()
            queue.want("a", 1)
            await queue.idle()
            queue.want("a", 1)
            await queue.idle()
            assert attempts == 1
            began = loop.time()
            while attempts < 3:
                queue.want("a", 1)
                await queue.idle()
                await asyncio.sleep(0.1)
            # 5 s after the first, 10 s after the second failure.
            assert 15 <= loop.time() - began < 16

    run_without_waiting(main)


def test_closing_ends_jobs_under_way() -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def do(job: int) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with queue_of(do) as queue:
            queue.want("a", 1)
            await began.wait()
        assert ended.is_set()

    run_without_waiting(main)


def test_why_it_failed_is_said_once_and_again_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        failures: list[Exception | None] = [
            PermissionError(errno.EACCES, "Permission denied", b"/items/x/secret"),
            PermissionError(errno.EACCES, "Permission denied", b"/items/x/secret"),
            TryLater(reason="the cache is full"),
            TryLater(reason="the cache is full"),
            KeyError("of a fault"),
            None,
            TryLater(reason="the cache is full"),
            None,
        ]

        async def do(job: int) -> None:
            if failures and (failure := failures.pop(0)) is not None:
                raise failure

        async with queue_of(do) as queue:
            while failures:
                queue.want("/items/x", 1)
                await queue.idle()
                await asyncio.sleep(1)

    run_without_waiting(main)
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == [
        "Not baked: /items/x: /items/x/secret: Permission denied",
        "Not baked: /items/x: the cache is full",
        "Not baked: /items/x: KeyError('of a fault')",
        "Not baked: /items/x: the cache is full",
    ]


def test_a_thousand_failures_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    complaints = Complaints(logging.getLogger("test"), length=500, clock=lambda: now)
    for number in range(1000):
        complaints.say(f"{number}", f"{number} fails")
    now = 61.0
    complaints.say("0", "0 fails")
    messages = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert len(messages) == 22
    assert messages[-2:] == ["980 more such lines were left out", "0 fails"]


def test_a_job_told_when_to_come_back_does_so_then() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        done = asyncio.Event()

        async def do(job: int) -> None:
            times.append(loop.time())
            if len(times) <= 5:
                raise TryLater(10.0)
            done.set()

        async with queue_of(do) as queue:
            queue.want("a", 1)
            await done.wait()
        assert [round(b - a) for a, b in itertools.pairwise(times)] == [10] * 5

    run_without_waiting(main)


@pytest.mark.parametrize("steps", range(8))
def test_closing_at_any_moment_leaves_no_task(steps: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()

        async def do(job: int) -> None:
            await asyncio.sleep(0)
            if job % 3 == 0:
                raise TryLater
            await asyncio.sleep(1)

        queue = JobQueue(do, workers=2)
        for job in range(5):
            queue.want(str(job), job)
        for _ in range(steps):
            await asyncio.sleep(0)
        await queue.close()
        assert asyncio.all_tasks() == before

    run_without_waiting(main)

"""The queue of jobs: bounded, without duplicates, patient with what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from guix_glue.errors import UnsupportedItem
from guix_glue.publish.queue import JobQueue, TryLater
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

"""Worker threads: nothing runs on behind whoever started it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eris.threads import in_thread, work_done_by


def test_results_and_errors() -> None:
    async def run() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 7, 0)

    asyncio.run(run())


def test_a_cancellation_waits_for_the_thread() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.set()

    async def run() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


def test_other_threads_do_the_work_of_a_task_and_of_those_it_starts() -> None:
    def name() -> str:
        return threading.current_thread().name

    async def run() -> None:
        with ThreadPoolExecutor(1, "calm") as calm:
            with work_done_by(calm):
                inside = asyncio.create_task(in_thread(name))
                assert (await in_thread(name)).startswith("calm")
            assert (await inside).startswith("calm")
            assert not (await in_thread(name)).startswith("calm")

    asyncio.run(run())

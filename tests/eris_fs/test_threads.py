"""Work in a thread, one step behind: in turn, and no error gets lost."""

from __future__ import annotations

import asyncio

import pytest

from eris_fs.threads import OneBehind


def test_one_call_at_a_time() -> None:
    seen: list[int] = []

    async def run() -> None:
        worker = OneBehind(seen.append)
        for number in range(100):
            await worker.start(number)
        await worker.wait()
        assert seen == list(range(100))

    asyncio.run(run())


def test_an_error_comes_out_at_the_next_call() -> None:
    def fail() -> None:
        raise OSError("disk full")

    async def run() -> None:
        worker = OneBehind(fail)
        await worker.start()
        with pytest.raises(OSError, match="disk full"):
            await worker.start()
        await worker.settle()

    asyncio.run(run())

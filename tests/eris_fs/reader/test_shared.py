"""One fetch for all who want a value, whoever comes, goes and fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from eris import BlockNotFound, StoreUnavailable
from eris_fs.reader.shared import Shared, Start
from tests.eris.helpers import run_clean


class Source:
    """Fetches that are answered by hand."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[bytes]] = []

    def start(self) -> Start[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return future, lambda value: value

    def start_task(self) -> Start[bytes]:
        async def work() -> bytes:
            self.start()
            try:
                return await self.asked[-1]
            finally:
                # Whatever it has to do at its end takes a while.
                await asyncio.sleep(0)

        return asyncio.ensure_future(work()), lambda value: value


def table(ahead: int = 1000) -> Shared[bytes]:
    return Shared(10_000, len, ahead)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def begin(
    shared: Shared[bytes], start: Callable[[], Start[bytes]], key: object = "key"
) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(shared.take(key, start))


def test_many_wait_for_one_fetch_and_then_it_is_there() -> None:
    async def run() -> None:
        shared, source = table(), Source()
        waiting = [begin(shared, source.start) for _ in range(5)]
        await settled()
        (future,) = source.asked
        future.set_result(b"value")
        assert await asyncio.gather(*waiting) == [b"value"] * 5
        assert await shared.take("key", source.start) == b"value"
        assert len(source.asked) == 1

    run_clean(run())


@pytest.mark.parametrize("as_task", [False, True])
def test_who_goes_disturbs_nobody_and_the_last_one_ends_it(as_task: bool) -> None:
    async def run() -> None:
        shared, source = table(), Source()
        start = source.start_task if as_task else source.start
        waiting = [begin(shared, start) for _ in range(3)]
        await settled()
        waiting[0].cancel()
        await settled()
        assert waiting[0].cancelled()
        assert not source.asked[0].done()
        source.asked[0].set_result(b"value")
        assert await asyncio.gather(*waiting[1:]) == [b"value"] * 2

        last = begin(shared, start, "other")
        await settled()
        last.cancel()
        await settled()
        assert source.asked[1].cancelled()
        # It is no fault of whoever comes next.
        again = begin(shared, start, "other")
        await settled()
        source.asked[2].set_result(b"again")
        assert await again == b"again"

    run_clean(run())


def test_who_comes_while_it_is_given_up_gets_a_new_one() -> None:
    async def run() -> None:
        shared, source = table(), Source()
        first = begin(shared, source.start_task)
        await settled()
        first.cancel()
        # The task has not ended, and may not for long.
        await asyncio.sleep(0)
        second = begin(shared, source.start_task)
        await settled()
        source.asked[1].set_result(b"value")
        assert await second == b"value"

    run_clean(run())


def test_what_fails_is_told_to_all_and_not_kept() -> None:
    async def run() -> None:
        shared, source = table(), Source()
        waiting = [begin(shared, source.start) for _ in range(3)]
        await settled()
        waiting[0].cancel()
        source.asked[0].set_exception(BlockNotFound(bytes(32)))
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, *[BlockNotFound] * 2]
        again = begin(shared, source.start)
        await settled()
        source.asked[1].cancel()
        # A store that gives up is no cancellation of ours.
        with pytest.raises(StoreUnavailable):
            await again

    run_clean(run())


def test_what_is_made_of_the_answer_may_fail_too() -> None:
    async def run() -> None:
        shared, source = table(), Source()

        def refuse(_: Any) -> bytes:
            raise ValueError("not this")

        waiting = begin(shared, lambda: (source.start()[0], refuse))
        await settled()
        source.asked[0].set_result(b"value")
        with pytest.raises(ValueError, match="not this"):
            await waiting

    run_clean(run())


def test_fetching_ahead_is_bounded_and_needs_nobody() -> None:
    async def run() -> None:
        shared, source = table(ahead=1000), Source()
        assert shared.fetch_ahead("a", source.start, 600)
        assert not shared.fetch_ahead("b", source.start, 600)
        assert shared.fetch_ahead("a", source.start, 600)
        assert len(source.asked) == 1
        # Whoever waits for it and goes leaves it to itself.
        waiting = begin(shared, source.start, "a")
        await settled()
        waiting.cancel()
        await settled()
        source.asked[0].set_result(b"a")
        await settled()
        assert await shared.take("a", source.start) == b"a"
        assert shared.fetch_ahead("b", source.start, 1000)
        source.asked[1].set_exception(BlockNotFound(bytes(32)))
        await settled()
        # Its room is free again, and nobody was told.
        assert shared.fetch_ahead("c", source.start, 1000)
        source.asked[2].cancel()
        await settled()
        assert shared.fetch_ahead("d", source.start, 1000)
        await shared.aclose()

    run_clean(run())


@pytest.mark.parametrize("as_task", [False, True])
def test_closing_ends_everything(as_task: bool) -> None:
    async def run() -> None:
        shared, source = table(), Source()
        start = source.start_task if as_task else source.start
        waiting = begin(shared, start)
        assert shared.fetch_ahead("ahead", start, 10)
        await settled()
        closing = asyncio.ensure_future(shared.aclose())
        with pytest.raises(StoreUnavailable, match="closed"):
            await waiting
        await closing
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(StoreUnavailable, match="closed"):
            await shared.take("key", start)
        assert not shared.fetch_ahead("more", start, 10)
        await shared.aclose()

    run_clean(run())

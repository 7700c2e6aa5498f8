"""Encoding into a store that is asked first: what is sent, and what that costs."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any

import pytest

from eris import BlockSize, MemoryStore, put_content
from eris.errors import StoreError, StoreRefused, StoreUnavailable
from eris.model import Reference
from tests.fakes import RecordingStore

MIB = 1024 * 1024


class AskedStore(RecordingStore):
    """A store in memory that notes the questions, and answers them when `answer` is set."""

    def __init__(self, blocks: Iterable[bytes] = (), error: StoreError | None = None) -> None:
        self.memory = MemoryStore(blocks)
        super().__init__(self.memory)
        self.asked: list[int] = []
        self.questions = asyncio.Semaphore(0)
        self.error = error
        self.answer = asyncio.Event()
        self.answer.set()

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        self.asked.append(len(references))
        self.questions.release()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return await self.memory.find(references)

    async def was_asked(self, times: int) -> None:
        """Wait for so many questions more."""
        for _ in range(times):
            await self.questions.acquire()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(30):
            await main()

    asyncio.run(guarded())


def content_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("how", ["bytes", "file", "stream"])
def test_a_second_time_next_to_nothing_is_sent(how: str) -> None:
    content = content_of(10 * MIB)

    async def main() -> None:
        store = AskedStore()
        first = await put_content(store, content, finder=store)
        assert len(set(store.puts)) == len(store.memory)
        store.puts.clear()
        source: Any = {
            "bytes": content,
            "file": io.BytesIO(content),
            "stream": in_pieces(content, 50_000),
        }[how]
        assert await put_content(store, source, finder=store) == first
        assert len(store.puts) <= 2

    run(main)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_what_broke_off_goes_on_there(kept: float) -> None:
    content = content_of(10 * MIB)

    async def main() -> None:
        whole = AskedStore()
        await put_content(whole, content)
        order = list(dict.fromkeys(whole.puts))
        there = order[: int(kept * len(order))]
        store = AskedStore()
        for reference in there:
            await store.memory.put(reference, await whole.memory.get(reference, BlockSize.LARGE))
        await put_content(store, content, finder=store)
        assert len(store.memory) == len(order)
        # And at most what one question is about.
        assert len(store.puts) <= len(order) - len(there) + 33

    run(main)


def test_what_is_lacking_in_the_middle_is_sent() -> None:
    content = content_of(6 * MIB)

    async def main() -> None:
        whole = AskedStore()
        await put_content(whole, content)
        lost = set(random.Random(2).sample(whole.puts, 9))
        store = AskedStore()
        for reference in set(whole.puts) - lost:
            await store.memory.put(reference, await whole.memory.get(reference, BlockSize.LARGE))
        await put_content(store, content, finder=store)
        assert lost <= set(store.puts)
        assert len(store.memory) == len(whole.memory)
        assert len(store.puts) <= len(lost) + 2

    run(main)


def test_a_store_that_has_nothing_is_asked_ever_more_rarely() -> None:
    content = content_of(32 * MIB)

    async def main() -> None:
        store = AskedStore()
        await put_content(store, io.BytesIO(content), finder=store)
        assert len(set(store.puts)) == len(store.memory) == len(store.puts)
        assert len(store.asked) <= 9

    run(main)


def test_what_comes_after_what_was_changed_is_found_again() -> None:
    content = content_of(32 * MIB)

    async def main() -> None:
        store = AskedStore()
        await put_content(store, io.BytesIO(content), finder=store)
        store.puts.clear()
        changed = content_of(2 * MIB, seed=9) + content[2 * MIB :]
        await put_content(store, io.BytesIO(changed), finder=store)
        assert 64 <= len(store.puts) <= 10 * 32

    run(main)


def test_a_gap_that_questions_under_way_together_find_hides_little_behind_it() -> None:
    """As where an upload broke off whose last questions had no answer, but not what came later."""
    content = content_of(32 * MIB)

    async def main() -> None:
        whole = AskedStore()
        await put_content(whole, content)
        there = {*whole.puts[: 5 * 32], *whole.puts[9 * 32 : 20 * 32]}
        store = AskedStore()
        for reference in there:
            await store.memory.put(reference, await whole.memory.get(reference, BlockSize.LARGE))
        store.answer.clear()
        putting = asyncio.ensure_future(put_content(store, io.BytesIO(content), finder=store))
        await store.was_asked(9)
        store.answer.set()
        await putting
        assert len(store.memory) == len(whole.memory)
        # One portion.
        assert len(there.intersection(store.puts)) <= store.asked[0] == 32

    run(main)


def test_no_more_than_eight_questions_wait_for_an_answer() -> None:
    content = content_of(10 * MIB)

    async def main() -> None:
        store = AskedStore()
        store.answer.clear()
        putting = asyncio.ensure_future(put_content(store, io.BytesIO(content), finder=store))
        await store.was_asked(8)
        assert not store.puts
        store.answer.set()
        await putting
        assert len(set(store.puts)) == len(store.memory)

    run(main)


def test_little_is_sent_without_a_question() -> None:
    async def main() -> None:
        store = AskedStore()
        await put_content(store, content_of(20_000), finder=store)
        assert not store.asked
        assert store.puts

    run(main)


@pytest.mark.parametrize("error", [StoreRefused("no"), StoreUnavailable("not now")])
def test_a_store_that_does_not_tell_gets_everything(error: StoreError) -> None:
    content = content_of(10 * MIB)

    async def main() -> None:
        store = AskedStore(error=error)
        await put_content(store, io.BytesIO(content), finder=store)
        assert len(store.memory) == len(store.puts)
        assert len(store.asked) <= 8

    run(main)


def test_an_error_of_the_store_ends_it_and_leaves_no_question_behind() -> None:
    async def main() -> None:
        store = AskedStore()
        store.answer.clear()

        def fail() -> bytes:
            raise ZeroDivisionError

        async def source() -> AsyncIterator[bytes]:
            yield content_of(3 * MIB)
            await store.was_asked(1)
            fail()

        before = asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError):
            await put_content(store, source(), finder=store)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    run(main)


def test_a_stream_that_keeps_us_waiting_keeps_back_less_than_a_question() -> None:
    content = content_of(3 * MIB)

    async def main() -> None:
        store = AskedStore()
        store.answer.clear()
        ended = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            async for piece in in_pieces(content, 70_000):
                yield piece
            store.answer.set()
            # An hour later there may be more.
            await ended.wait()

        putting = asyncio.ensure_future(put_content(store, source(), finder=store))
        while len(store.puts) * 32768 <= len(content) - 600_000:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        ended.set()
        await putting
        assert len(set(store.puts)) == len(store.memory)

    run(main)

"""Pumps that are cancelled anywhere, and stores and sources that raise anything: all ends."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from eris import (
    BlockSize,
    BlockWriter,
    MemoryStore,
    NullStore,
    ReadCapability,
    check_content,
    get_content,
    put_content,
    stream_content,
)
from eris.ahead import run_ahead
from eris.threads import in_thread, settle, withdraw
from tests.eris_fs.stores import BackwardStore
from tests.interrupting import ODD_ERRORS, FailingAt, Odd, at_every_wait, check_run

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(5000))
SMALL = BlockSize.SMALL

Work = Callable[[BlockWriter], Coroutine[Any, Any, Any]]


async def pieces(count: int = 6, size: int = 20_000) -> AsyncIterator[bytes]:
    for number in range(count):
        await asyncio.sleep(0)
        yield bytes([number]) * size


def stored() -> tuple[MemoryStore, ReadCapability]:
    store = MemoryStore()
    return store, asyncio.run(put_content(store, CONTENT, block_size=SMALL))


async def read_all(store: BlockWriter, capability: ReadCapability) -> None:
    async with aclosing(stream_content(store, capability, window=3)) as content:
        async for _ in content:
            pass


async def check_all(store: BlockWriter, capability: ReadCapability) -> None:
    async with aclosing(check_content(store, capability, window=3)) as blocks:
        async for _ in blocks:
            pass


PUTS: dict[str, Work] = {
    "bytes": lambda store: put_content(store, CONTENT, block_size=SMALL, window=4),
    "file": lambda store: put_content(store, io.BytesIO(CONTENT), block_size=SMALL, window=4),
    "pieces": lambda store: put_content(store, pieces(), window=2),
}
GETS: dict[str, Callable[[BlockWriter, ReadCapability], Coroutine[Any, Any, Any]]] = {
    "get_content": lambda store, capability: get_content(store, capability, window=3),
    "stream_content": read_all,
    "check_content": check_all,
}
twice = pytest.mark.parametrize("again", [0, 100], ids=["once", "again and again"])


@twice
@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
def test_putting_is_cancelled_anywhere(put: Work, again: int) -> None:
    assert at_every_wait(lambda: put(BackwardStore(MemoryStore())), again=again) > 3


@twice
@pytest.mark.parametrize("get", GETS.values(), ids=GETS)
def test_getting_is_cancelled_anywhere(get: Any, again: int) -> None:
    store, capability = stored()
    assert at_every_wait(lambda: get(BackwardStore(store), capability), again=again) > 2


odd = pytest.mark.parametrize("error", ODD_ERRORS)
when = pytest.mark.parametrize("at_once", [True, False], ids=["at once", "awaited"])


@odd
@when
@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
def test_a_store_that_raises_anything_when_put(
    put: Work, error: type[BaseException], at_once: bool
) -> None:
    for number in (1, 2, 4):
        store = FailingAt(MemoryStore(), number, error, at_once=at_once)
        assert check_run(partial(put, store)) is not None


@odd
@when
@pytest.mark.parametrize("get", GETS.values(), ids=GETS)
def test_a_store_that_raises_anything_when_got(
    get: Any, error: type[BaseException], at_once: bool
) -> None:
    store, capability = stored()
    for number in (1, 2, 4):
        failing = FailingAt(store, number, error, at_once=at_once)
        assert check_run(partial(get, failing, capability)) is not None


@odd
@pytest.mark.parametrize("after", [0, 1, 3, 12])
def test_a_source_that_raises_anything(error: type[BaseException], after: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(after):
            yield bytes(20_000)
        raise error

    assert check_run(lambda: put_content(NullStore(), source())) is not None


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_source_that_waits_for_what_was_cancelled(after: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(after):
            yield bytes(20_000)
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    failure = check_run(lambda: put_content(NullStore(), source()))
    assert isinstance(failure, asyncio.CancelledError)


@odd
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_file_that_raises_anything(error: type[BaseException], after: int) -> None:
    class File(io.BytesIO):
        left = after

        def read(self, _: int | None = -1, /) -> bytes:
            if not self.left:
                raise error
            self.left -= 1
            return bytes(20_000)

    assert check_run(lambda: put_content(NullStore(), File())) is not None


# --- what they are made of ----------------------------------------------------------------------


@odd
def test_a_thread_that_raises_anything(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    assert check_run(lambda: in_thread(fail)) is not None


def test_a_maker_that_ends_before_it_began() -> None:
    async def work() -> None:
        async def items() -> Any:
            yield 1

        async with run_ahead(items(), 1) as take:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "make" in repr(task):
                    task.cancel()
            await take()

    assert isinstance(check_run(work), asyncio.CancelledError)


def test_what_was_made_before_an_error_comes_first() -> None:
    taken: list[int] = []

    async def work() -> None:
        async def items() -> Any:
            yield 1
            yield 2
            raise Odd

        async with run_ahead(items(), 5) as take:
            while (item := await take()) is not None:
                taken.append(item)

    assert isinstance(check_run(work), Odd)
    assert taken == [1, 2]


def test_a_cancellation_while_settling_is_not_lost() -> None:
    cleared: list[str] = []

    async def work() -> None:
        other = asyncio.ensure_future(asyncio.sleep(0.01))
        try:
            await asyncio.sleep(0)
        finally:
            await settle(other)
            cleared.append("behind it")
        await asyncio.sleep(0)
        cleared.append("after it")

    async def cancelled() -> None:
        task = asyncio.ensure_future(work())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await task

    assert isinstance(check_run(cancelled), asyncio.CancelledError)
    assert cleared == ["behind it"]


def test_a_time_out_while_settling_is_one() -> None:
    async def work() -> None:
        async with asyncio.timeout(0):
            await settle(asyncio.ensure_future(asyncio.sleep(0.01)))
            await asyncio.sleep(60)

    assert isinstance(check_run(work), TimeoutError)


def test_what_is_withdrawn_may_fail_all_the_same() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("while it gave up") from None

    async def work() -> None:
        future = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        withdraw([future])

    assert check_run(work) is None

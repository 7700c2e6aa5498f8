"""Requests that are given up, at each place where they wait: nothing is left of them.

Not a place in the window, which the next request would miss; not a task; not a connection.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from eris.errors import StoreUnavailable
from kapla.client import RemoteStore, StoreList
from kapla.coap.frame import Code, Message
from tests.kapla.fake_server import FakeServer, Peer, fake_server, keep_blocks, until_lost
from tests.kapla.test_client import REFERENCE, SMALL, get, run, silent

Store = RemoteStore | StoreList

# More than any of the operations has.
_MOST_WAITS = 20


class CancelledAt:
    """Awaits something, cancelled when it waits for the n-th time, from 0."""

    def __init__(self, awaitable: Awaitable[object], number: int) -> None:
        self._awaitable = awaitable
        self._number = number

    def __await__(self) -> Generator[Any, Any, object]:
        waiting = self._awaitable.__await__()
        error: BaseException | None = None
        number = 0
        while True:
            try:
                future = waiting.send(None) if error is None else waiting.throw(error)
            except StopIteration as done:
                return done.value
            error = None
            if number == self._number:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            number += 1
            try:
                yield future
            except asyncio.CancelledError as cancelled:
                error = cancelled


async def was_cancelled(awaitable: Awaitable[object], number: int) -> bool:
    """Whether it came to that: else it was done before."""

    async def main() -> object:
        return await CancelledAt(awaitable, number)

    task = asyncio.ensure_future(main())
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


def answer(peer: Peer, request: Message) -> None:
    if request.code == Code.FETCH:
        bits = bytes(-(-len(request.payload) // 32 // 8))
        peer.send(Code.CONTENT, request.token, payload=bits)
    else:
        keep_blocks([SMALL])(peer, request)


async def nobody_is_left(*servers: FakeServer) -> None:
    for server in servers:
        await server.until(lambda server=server: all(p.gone.done() for p in server.peers))  # type: ignore[misc]


OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "connect": lambda store: store.connect(),
    "get": get,
    "put": lambda store: store.put(REFERENCE, SMALL),
    "find": lambda store: store.find([REFERENCE] * 3000),
}
every_operation = pytest.mark.parametrize("name", OPERATIONS)


@pytest.mark.parametrize("kind", ["one", "list"])
@pytest.mark.parametrize("connected", [False, True], ids=["new", "connected"])
@every_operation
def test_a_request_that_is_given_up_leaves_nothing(name: str, connected: bool, kind: str) -> None:
    async def attempt(number: int) -> bool:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(fake_server(answer)) for _ in range(2)]
            stores = [RemoteStore(server.url, window=1) for server in servers]
            store: Store = StoreList(stores) if kind == "list" else stores[0]
            before = asyncio.all_tasks()
            if connected:
                await store.connect()
            cancelled = await was_cancelled(OPERATIONS[name](store), number)
            # There is one place in the window: it is free again.
            assert await get(store) == SMALL
            await store.put(REFERENCE, SMALL)
            await store.close()
            assert asyncio.all_tasks() == before
            await nobody_is_left(*servers)
            return cancelled

    async def main() -> None:
        for number in range(_MOST_WAITS):
            if not await attempt(number):
                assert number > 0 or (connected and name == "connect")
                return
        raise AssertionError("it waits more often than was thought")

    run(main)


def test_many_requests_that_are_given_up_leave_room_for_others() -> None:
    """What they would have brought counts as under way only until it is answered."""

    async def main() -> None:
        async with fake_server(answer) as server, RemoteStore(server.url) as store:
            await store.connect()
            for _ in range(100):
                for _ in range(100):
                    asyncio.ensure_future(get(store)).cancel()
                assert await get(store) == SMALL

    run(main)


def test_what_is_given_up_before_it_is_sent_is_not_kept() -> None:
    """A slow store takes long to come to it, and whoever gave up may ask again and again."""

    async def main() -> None:
        async with fake_server(silent) as server, RemoteStore(server.url, window=1) as store:
            await store.connect()
            kept: weakref.WeakSet[Any] = weakref.WeakSet()
            first = get(store)
            wanted = [asyncio.ensure_future(get(store)) for _ in range(100)]
            for _ in range(20_000):
                request = asyncio.ensure_future(get(store))
                request.cancel()
                kept.add(request)
                del request
            gc.collect()
            assert len(kept) < 5000
            # The others still come, in order.
            server.script = answer
            (peer,) = server.peers
            await server.until_requests(1)
            answer(peer, server.requests[0])
            assert await asyncio.gather(first, *wanted) == [SMALL] * 101

    run(main)


def test_large_requests_that_are_given_up_before_they_are_sent_are_not_kept() -> None:
    async def main() -> None:
        async with fake_server(silent) as server, RemoteStore(server.url, window=1) as store:
            await store.connect()
            first = asyncio.ensure_future(store.find([REFERENCE]))
            await server.until_requests(1)
            tracemalloc.start()
            try:
                for _ in range(1000):
                    request = asyncio.ensure_future(store.ask(Code.FETCH, bytes(32768)))
                    for _ in range(3):  # so that it waits for its turn
                        await asyncio.sleep(0)
                    request.cancel()
                    await asyncio.wait([request])
                # All together have 32 MiB.
                assert tracemalloc.get_traced_memory()[0] < 8 << 20
            finally:
                tracemalloc.stop()
            first.cancel()

    run(main)


def test_a_list_that_is_closed_stays_closed() -> None:
    async def main() -> None:
        async with fake_server(answer) as first, fake_server(answer) as second:
            store = StoreList([RemoteStore(first.url), RemoteStore(second.url)])
            assert await get(store) == SMALL
            await store.close()
            connections = len(first.peers), len(second.peers)
            for operation in OPERATIONS.values():
                with pytest.raises(StoreUnavailable, match="was closed"):
                    await operation(store)
            assert (len(first.peers), len(second.peers)) == connections

    run(main)


@pytest.mark.parametrize("kind", ["one", "list"])
def test_closing_that_is_given_up_still_closes(kind: str) -> None:
    async def attempt(number: int) -> bool:
        async with fake_server(silent) as first, fake_server(silent) as second:
            stores = [RemoteStore(first.url), RemoteStore(second.url)]
            store: Store = StoreList(stores) if kind == "list" else stores[0]
            await store.connect()
            waiting = asyncio.ensure_future(get(store))
            cancelled = await was_cancelled(store.close(), number)
            await store.close()
            await asyncio.wait([waiting])
            assert waiting.exception() is not None
            await nobody_is_left(first, second)
            return cancelled

    async def main() -> None:
        for number in range(_MOST_WAITS):
            if not await attempt(number):
                return
        raise AssertionError("it waits more often than was thought")

    run(main)


def test_of_two_that_close_one_is_given_up() -> None:
    async def main() -> None:
        async with fake_server(silent) as server:
            store = RemoteStore(server.url)
            await store.connect()
            wire = store._wire
            assert wire is not None
            one, two = (asyncio.ensure_future(wire.close()) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.wait([one, two])
            assert one.cancelled()
            assert two.exception() is None
            await nobody_is_left(server)

    run(main)


def test_a_connection_that_is_owed_answers_is_closed_too() -> None:
    """A store that is to stop keeps a connection until all on it is answered."""

    async def main() -> None:
        async with fake_server(silent) as server, RemoteStore(server.url) as store:
            owed = asyncio.ensure_future(get(store))
            await server.until_requests(1)
            server.peers[0].send(Code.RELEASE)
            await until_lost(store)
            asked = asyncio.ensure_future(get(store))
            await server.until_requests(2)
            assert not owed.done()
            await store.close()
            await asyncio.wait([owed, asked])
            assert owed.exception() is not None
            await nobody_is_left(server)

    run(main)


def test_what_is_found_wrong_ends_the_other_questions() -> None:
    def script(peer: Peer, request: Message) -> None:
        if len(peer.requests) == 1:
            peer.send(Code.FORBIDDEN, request.token)

    async def main() -> None:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            await store.connect()
            before = asyncio.all_tasks()
            with pytest.raises(Exception, match="refuses"):
                await store.find([REFERENCE] * 4000)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == before

    run(main)

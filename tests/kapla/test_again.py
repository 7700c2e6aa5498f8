"""What becomes of requests when the connection to a store is lost, and it comes back or not."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eris import reference_of
from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.client import RemoteStore, StoreList, open_store
from kapla.coap.blocks import pack_bitmap
from kapla.coap.frame import Code, Message, format_message
from kapla.urls import StoreUrl
from tests.kapla.fake_server import (
    CSM,
    FakeServer,
    Peer,
    Script,
    fake_server,
    keep_blocks,
    until_lost,
)
from tests.kapla.test_client import REFERENCE, SMALL, error_in, get, run

BLOCKS = [bytes([number]) * 1024 for number in range(20)]
LONG_S = 30.0


class Restarted:
    """A script of a daemon that stops answering, and a later run of it that behaves."""

    def __init__(self, *, after: int = 1) -> None:
        self.kept = keep_blocks([SMALL])
        self.runs = 1
        self._left = after

    def __call__(self, peer: Peer, request: Message) -> None:
        if self.runs == 1 and not self._left:
            return
        self._left -= self.runs == 1
        if request.code == Code.FETCH:
            peer.send(Code.CONTENT, request.token, payload=pack_bitmap([True]))
        elif request.code == Code.POST:
            peer.send(Code.CHANGED, request.token)
        else:
            self.kept(peer, request)


@asynccontextmanager
async def connected(
    script: Script, reconnect_s: float = LONG_S, told: list[float] | None = None
) -> AsyncIterator[tuple[FakeServer, RemoteStore]]:
    """A store that has answered once."""

    def on_lost(_: StoreUrl, for_s: float) -> None:
        if told is not None:
            told.append(for_s)

    async with (
        fake_server(script) as server,
        RemoteStore(server.url, reconnect_s=reconnect_s, on_lost=on_lost) as store,
    ):
        assert await get(store) == SMALL
        yield server, store


def abort(server: FakeServer) -> None:
    server.peers[-1].transport.abort()


def release(server: FakeServer) -> None:
    """As a daemon that stops: what it has read is answered, and more is not read."""
    server.peers[-1].transport.write(format_message(Code.RELEASE))
    server.peers[-1].transport.close()


@pytest.mark.parametrize("stop", [abort, release])
def test_what_was_under_way_is_asked_again(stop: Callable[[FakeServer], None]) -> None:
    told: list[float] = []

    async def main() -> None:
        script = Restarted()
        async with connected(script, told=told) as (server, store):
            waiting = [
                asyncio.ensure_future(get(store)),
                asyncio.ensure_future(store.find([REFERENCE])),
                *(asyncio.ensure_future(store.put(reference_of(block), block)) for block in BLOCKS),
            ]
            given_up = waiting.pop()
            await server.until_requests(1 + 2 + len(BLOCKS))
            given_up.cancel()
            script.runs = 2
            stop(server)
            found = await asyncio.gather(*waiting)
            assert found == [SMALL, [True], *[None] * (len(BLOCKS) - 1)]
            assert len(server.peers) == 2
            assert len(server.peers[1].requests) == len(waiting)
            # What is asked meanwhile or later goes the same way.
            assert await get(store) == SMALL
            assert told == [LONG_S]

    run(main)


def test_what_is_asked_while_there_is_no_connection_waits_for_it() -> None:
    async def main() -> None:
        script = Restarted()
        script.runs = 2
        async with connected(script) as (server, store):
            abort(server)
            await until_lost(store)
            assert [*await asyncio.gather(get(store), get(store))] == [SMALL, SMALL]
            assert len(server.peers) == 2

    run(main)


def test_a_connection_that_is_owed_answers_when_the_next_is_there_hands_them_on() -> None:
    async def main() -> None:
        script = Restarted()
        async with connected(script) as (server, store):
            owed = asyncio.ensure_future(get(store))
            await server.until_requests(2)
            server.peers[0].transport.write(format_message(Code.RELEASE))
            await until_lost(store)
            script.runs = 2
            assert await get(store) == SMALL
            assert not owed.done()
            server.peers[0].transport.abort()
            assert await owed == SMALL
            assert len(server.peers) == 2

    run(main)


@pytest.mark.parametrize("may_be_repeated", [False, True])
def test_a_post_is_repeated_only_if_that_is_said_to_be_right(may_be_repeated: bool) -> None:
    async def main() -> None:
        script = Restarted()
        async with connected(script) as (server, store):
            asked = asyncio.ensure_future(
                store.ask(Code.POST, b"", may_be_repeated=may_be_repeated)
            )
            await server.until_requests(2)
            script.runs = 2
            abort(server)
            if may_be_repeated:
                assert await asked == (Code.CHANGED, b"")
            else:
                assert isinstance(await error_in(asked), StoreUnavailable)

    run(main)


def test_without_it_what_was_under_way_fails_at_once() -> None:
    async def main() -> None:
        async with connected(Restarted(), reconnect_s=0) as (server, store):
            asked = asyncio.ensure_future(get(store))
            await server.until_requests(2)
            abort(server)
            assert "lost" in str(await error_in(asked))
            assert len(server.peers) == 1

    run(main)


def test_a_store_that_was_never_there_is_not_waited_for() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks()) as server:
            url = server.url
        async with RemoteStore(url, reconnect_s=3600) as store:
            assert "cannot connect" in str(await error_in(get(store)))
            assert "cannot connect" in str(await error_in(store.connect()))

    run(main)


def test_a_connection_on_which_nothing_was_ever_answered_is_not_made_again() -> None:
    def hang_up(peer: Peer, request: Message) -> None:
        peer.transport.abort()

    async def main() -> None:
        async with (
            fake_server(hang_up) as server,
            RemoteStore(server.url, reconnect_s=3600) as store,
        ):
            assert "lost" in str(await error_in(get(store)))
            assert len(server.peers) == 1

    run(main)


def test_who_ends_while_we_write_and_is_not_heard_is_waited_for() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "s"
            async with (
                fake_server(keep_blocks([SMALL]), socket=path) as server,
                RemoteStore(server.url, reconnect_s=LONG_S) as store,
            ):
                await store.connect()
                await server.until(lambda: bool(server.peers))
                with server.peers[0].transport.get_extra_info("socket").dup() as ending:

                    def end() -> None:
                        ending.send(format_message(Code.RELEASE))
                        ending.shutdown(socket.SHUT_RDWR)

                    # Between what was read last and what is written next.
                    asyncio.get_running_loop().call_soon(end)
                    assert await get(store) == SMALL
                assert len(server.peers) == 2

    run(main)


def test_who_ends_while_the_connection_is_made_is_waited_for() -> None:
    async def main() -> None:
        ending = CSM + format_message(Code.RELEASE)
        async with (
            fake_server(keep_blocks([SMALL]), greeting=ending) as server,
            RemoteStore(server.url, reconnect_s=LONG_S) as store,
        ):
            asked = asyncio.ensure_future(get(store))
            await server.until(lambda: bool(server.peers))
            server.greeting = CSM
            server.peers[0].transport.close()
            assert await asked == SMALL
            assert len(server.peers) == 2

    run(main)


def test_it_has_an_end_where_the_store_does_not_come_back() -> None:
    async def main() -> None:
        async with connected(Restarted(), reconnect_s=0.2) as (server, store):
            asked = asyncio.ensure_future(get(store))
            await server.until_requests(2)
            server.close()
            abort(server)
            assert "cannot connect" in str(await error_in(asked))
            # What comes later does not wait again.
            assert "cannot connect" in str(await error_in(get(store)))

    run(main)


def test_it_has_an_end_where_every_connection_is_lost() -> None:
    def answer_once(peer: Peer, request: Message) -> None:
        if len(peer.requests) > 1 or len(server_of[0].peers) > 1:
            peer.transport.abort()
        else:
            peer.send(Code.CONTENT, request.token, payload=SMALL)

    server_of: list[FakeServer] = []

    async def main() -> None:
        async with (
            fake_server(answer_once) as server,
            RemoteStore(server.url, reconnect_s=1.0) as store,
        ):
            server_of.append(server)
            assert await get(store) == SMALL
            assert isinstance(await error_in(get(store)), StoreUnavailable)
            # With pauses, not as fast as it goes.
            assert 2 <= len(server.peers) <= 10

    run(main)


def test_closing_ends_the_waiting() -> None:
    async def main() -> None:
        async with connected(Restarted()) as (server, store):
            asked = asyncio.ensure_future(get(store))
            await server.until_requests(2)
            server.close()
            abort(server)
            await until_lost(store)
            await store.close()
            assert "was closed" in str(await error_in(asked))

    run(main)


def test_of_a_list_gets_go_on_to_the_next_store_and_puts_wait_for_theirs() -> None:
    async def main() -> None:
        first, second = Restarted(after=2), keep_blocks([SMALL])
        async with (
            # One of this machine is asked before the others.
            fake_server(first, socket=directory / "s") as near,
            fake_server(second) as far,
            open_store([near.url, far.url], reconnect_s=LONG_S) as store,
        ):
            assert isinstance(store, StoreList)
            assert await get(store) == SMALL
            taker = await store.taker()
            got = asyncio.ensure_future(get(store))
            put = asyncio.ensure_future(store.put(reference_of(BLOCKS[1]), BLOCKS[1]))
            await near.until_requests(4)
            first.runs = 2
            near.peers[0].transport.abort()
            assert await got == SMALL
            await put
            assert [request.code for request in near.peers[1].requests] == [Code.PUT]
            # And those that come meanwhile stay together with it.
            near.peers[-1].transport.abort()
            await until_lost(taker)
            await store.put(reference_of(BLOCKS[2]), BLOCKS[2])
            assert await near_has(near, BLOCKS[2])
            assert not any(request.code == Code.PUT for request in far.requests)

    async def near_has(near: FakeServer, block: bytes) -> bool:
        async with RemoteStore(near.url) as store:
            return await store.get(reference_of(block), BlockSize.SMALL) == block

    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        directory = Path(name)
        run(main)

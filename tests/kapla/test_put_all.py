"""Blocks that are put together: what becomes of all of them, and of each."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import pytest

from eris import EncodedBlock, reference_of
from eris.errors import StoreFull, StoreRefused, StoreUnavailable
from eris.model import BlockSize
from eris.store import ManyWriter
from kapla.client import RemoteStore, StoreList
from kapla.coap.frame import Code, Message
from kapla.config import Config
from kapla.daemon import Daemon
from kapla.urls import parse_store_url
from tests.kapla.fake_server import Peer, Script, fake_server, keep_blocks
from tests.kapla.test_client import SMALL, error_in, get, run, silent

SOURCE = random.Random(7)


def some(count: int, size: int = BlockSize.SMALL) -> list[EncodedBlock]:
    blocks = [SOURCE.randbytes(size) for _ in range(count)]
    return [(reference_of(block), block) for block in blocks]


def answering(code: int, *places: int) -> Script:
    """A script that says this to the PUTs at these places, and keeps all others."""
    left = set(places)
    kept = keep_blocks([SMALL])
    seen = -1

    def script(peer: Peer, request: Message) -> None:
        nonlocal seen
        seen += request.code == Code.PUT
        if request.code == Code.PUT and seen in left:
            peer.send(code, request.token, payload=b"so it is" if code >> 5 > 2 else b"")
        else:
            kept(peer, request)

    return script


class HoldingBack:
    """A script that answers when it is told to, the last first."""

    def __init__(self) -> None:
        self.held: list[tuple[Peer, Message]] = []

    def __call__(self, peer: Peer, request: Message) -> None:
        self.held.append((peer, request))

    def answer(self, count: int | None = None) -> None:
        for _ in range(len(self.held) if count is None else count):
            peer, request = self.held.pop()
            peer.send(Code.CREATED, request.token)


def test_each_block_is_a_request_and_all_are_answered_together() -> None:
    blocks = [*some(3), *some(2, BlockSize.LARGE), *some(1)]

    async def main() -> None:
        async with fake_server(keep_blocks()) as server, RemoteStore(server.url) as store:
            assert isinstance(store, ManyWriter)
            # The first is asked for before there is a connection, the second on it.
            await store.put_all(blocks[:2])
            await store.put_all(blocks[2:])
            assert [request.payload for request in server.requests] == [one for _, one in blocks]
            path = ((11, b".well-known"), (11, b"eris"), (11, b"blocks"))
            assert {request[2] for request in server.requests} == {path}
            assert len({request.token for request in server.requests}) == len(blocks)
            for reference, block in blocks:
                assert await store.get(reference, BlockSize(len(block))) == block
            await store.put_all([])
            assert store.owed == 0

    run(main)


def test_what_was_put_together_is_held_by_an_open_pin() -> None:
    blocks = some(5)

    async def main() -> None:
        from kapla.held import Held

        async with fake_server(keep_blocks()) as server, RemoteStore(server.url) as store:
            held = store.held = Held()
            await store.put_all(blocks)
            assert b"".join(held.parts()) == b"".join(reference for reference, _ in blocks)
            assert held.is_whole
            held = store.held = Held(most=64)
            await store.put_all(blocks)
            assert b"".join(held.parts()) == b"".join(reference for reference, _ in blocks[:2])
            assert not held.is_whole

    run(main)


def test_answers_come_in_any_order() -> None:
    async def main() -> None:
        script = HoldingBack()
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            first = asyncio.ensure_future(store.put_all(some(4)))
            second = asyncio.ensure_future(store.put_all(some(3)))
            await server.until_requests(7)
            script.answer(6)
            await second
            assert not first.done()
            script.answer()
            await first

    run(main)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.REQUEST_ENTITY_TOO_LARGE, StoreFull),
        (Code.FORBIDDEN, StoreRefused),
        (Code.SERVICE_UNAVAILABLE, StoreUnavailable),
        (Code.CHANGED, None),
    ],
)
def test_an_answer_to_one_of_them_is_that_of_all(code: int, error: type[Exception] | None) -> None:
    async def main() -> None:
        script = answering(code, 4, 6)
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            put = store.put_all(some(10))
            if error is None:
                await put
            else:
                assert isinstance(await error_in(put), error)
            # The connection goes on as before.
            assert await get(store) == SMALL
            await store.put_all(some(3))
            assert store.owed == 0
            assert len(server.peers) == 1

    run(main)


def test_a_window_has_room_for_so_many_and_one_that_is_cancelled_sends_no_more() -> None:
    async def main() -> None:
        script = HoldingBack()
        async with fake_server(script) as server, RemoteStore(server.url, window=4) as store:
            await store.connect()
            given_up = asyncio.ensure_future(store.put_all(some(10)))
            never_begun = asyncio.ensure_future(store.put_all(some(10)))
            last = some(6)
            wanted = asyncio.ensure_future(store.put_all(last))
            await server.until_requests(4)
            assert store.owed == 26
            given_up.cancel()
            never_begun.cancel()
            for answered in range(1, 5):
                script.answer(1)
                await server.until_requests(4 + answered)
            script.answer()
            await server.until_requests(10)
            script.answer()
            await wanted
            assert [request.payload for request in server.requests[4:]] == [one for _, one in last]
            assert given_up.cancelled() and never_begun.cancelled()
            assert store.owed == 0

    run(main)


def test_what_was_not_answered_is_sent_again_on_the_next_connection() -> None:
    blocks = some(12)

    async def main() -> None:
        script = HoldingBack()
        async with (
            fake_server(script) as server,
            RemoteStore(server.url, window=8, reconnect_s=30) as store,
        ):
            putting = asyncio.ensure_future(store.put_all(blocks))
            given_up = asyncio.ensure_future(store.put_all(some(3)))
            await server.until_requests(8)
            # The last five of those that were sent, and with them three more are.
            script.answer(5)
            await server.until_requests(12)
            given_up.cancel()
            script.held.clear()
            server.peers[0].transport.abort()
            await server.until(lambda: len(script.held) >= 7)
            again = {request.payload for _, request in script.held}
            answered = {request.payload for request in server.requests[3:8]}
            assert again == {block for _, block in blocks} - answered
            assert not putting.done()
            script.answer()
            await putting
            assert len(server.peers) == 2
            assert store.owed == 0

    run(main)


def test_without_another_connection_they_fail() -> None:
    async def main() -> None:
        async with fake_server(silent) as server, RemoteStore(server.url, window=4) as store:
            sent = asyncio.ensure_future(store.put_all(some(3)))
            waits = asyncio.ensure_future(store.put_all(some(3)))
            await server.until_requests(4)
            server.close()
            server.peers[0].transport.abort()
            assert isinstance(await error_in(sent), StoreUnavailable)
            assert isinstance(await error_in(waits), StoreUnavailable)
            assert isinstance(await error_in(store.put_all(some(1))), StoreUnavailable)

    run(main)


def test_closing_the_store_fails_them() -> None:
    async def main() -> None:
        async with fake_server(silent) as server:
            store = RemoteStore(server.url)
            waiting = asyncio.ensure_future(store.put_all(some(3)))
            await server.until_requests(3)
            await store.close()
            assert isinstance(await error_in(waiting), StoreUnavailable)

    run(main)


def test_a_url_without_put_lets_none_pass() -> None:
    async def main() -> None:
        async with fake_server(keep_blocks(), flags="?get") as server:
            async with RemoteStore(server.url) as store:
                assert isinstance(await error_in(store.put_all(some(2))), StoreRefused)
            assert not server.requests

    run(main)


def test_a_list_goes_on_to_the_next_store_with_all_of_them() -> None:
    blocks = some(6)

    async def main() -> None:
        kept = keep_blocks()
        async with fake_server(answering(Code.FORBIDDEN, 1)) as first, fake_server(kept) as second:
            stores = RemoteStore(first.url), RemoteStore(second.url)
            async with StoreList(stores) as store:
                # The first PUT is the question whether it takes blocks.
                await store.put_all(blocks)
                for reference, block in blocks:
                    assert await store.get(reference, BlockSize.SMALL) == block
            assert {request.payload for request in second.requests} >= {one for _, one in blocks}

    run(main)


def test_a_store_with_less_room_than_that_says_so_and_keeps_what_it_took() -> None:
    small, large = some(3), some(64, BlockSize.LARGE)

    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="kapla-") as directory:
            url = parse_store_url(f"coap+unix://{directory}/eris.sock")
            config = Config(
                store=Path(directory) / "blocks.sqlite",
                listen=(url,),
                max_size=1024 * 1024,
                when_full="refuse",
            )
            daemon = Daemon(config)
            daemon._pair = None
            try:
                await daemon.start()
                async with RemoteStore(url) as store:
                    await store.put_all(small)
                    assert isinstance(await error_in(store.put_all(large)), StoreFull)
                    for reference, block in small:
                        assert await store.get(reference, BlockSize.SMALL) == block
                    there = await store.find([reference for reference, _ in large])
                    assert sum(there) < len(large)
                    await store.put_all([one for one, has in zip(large, there, strict=True) if has])
            finally:
                await daemon.stop()

    run(main)

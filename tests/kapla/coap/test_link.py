"""A link on which both ends ask and answer: over real sockets, with stores in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from eris import BlockSize, reference_of
from eris.errors import BlockNotFound, StoreUnavailable
from kapla.coap.answering import Answering
from kapla.coap.blocks import block_query, get_options
from kapla.coap.frame import Code, format_message
from kapla.coap.link import Link
from kapla.coap.peers import Peers
from kapla.coap.requester import Requester
from kapla.coap.site import AiocoapLane
from kapla.coap.turns import Turns
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    EMPTY_CSM,
    FakeTransport,
    MemoryStorage,
    parse_messages,
    request_bytes,
)

_TIMEOUT_S = 20.0


def block(number: int, size: BlockSize = BlockSize.SMALL) -> bytes:
    """A block of its own for each number."""
    return number.to_bytes(4, "big") * (int(size) // 4)


async def _report() -> dict[str, object]:
    return {}


class End:
    """One end of a link: it has blocks, and asks for those of the other end."""

    def __init__(self, blocks: list[bytes]) -> None:
        access = BlockAccess(
            cast(BatchedStorage, MemoryStorage(blocks)), Rights(get=True), Statistics()
        )
        lane = AiocoapLane(access, _report)
        self.line = Turns().line()
        self.idle = asyncio.Event()
        self.peers = Peers(access, lane, self.line, 8, self.idle.set)
        self.link = Link(
            lambda link: Answering(link, access, lane, self.line, self.peers),
            lambda link: Requester(link, "the other end", 4096, _TIMEOUT_S),
        )
        assert self.link.asking is not None
        self.asking = self.link.asking

    def get(self, wanted: bytes) -> asyncio.Future[bytes]:
        """Ask the other end for a block."""
        reference = reference_of(wanted)
        body = get_options((), block_query(reference), len(wanted))
        return self.asking.request(Code.GET, body, reference, len(wanted))


@asynccontextmanager
async def linked(first: list[bytes], second: list[bytes]) -> AsyncIterator[tuple[End, End]]:
    """Two ends of one connection."""
    loop = asyncio.get_running_loop()
    ends = End(first), End(second)
    async with asyncio.timeout(_TIMEOUT_S):
        for end, one in zip(ends, socket.socketpair(), strict=True):
            await loop.create_unix_connection(lambda end=end: end.link, sock=one)  # type: ignore[misc]
        try:
            yield ends
        finally:
            for end in ends:
                end.link.abort()
                await end.link.closed


def test_both_ends_ask_and_answer_at_the_same_time() -> None:
    mine = [block(n, BlockSize.LARGE) for n in range(300)]
    yours = [block(n) for n in range(1000, 3000)]

    async def run() -> None:
        async with linked(mine, yours) as (one, other):
            asked = [one.get(wanted) for wanted in yours] + [other.get(wanted) for wanted in mine]
            assert await asyncio.gather(*asked) == yours + mine

    asyncio.run(run())


def test_what_an_end_does_not_have_is_told() -> None:
    async def run() -> None:
        async with linked([], []) as (one, _):
            with pytest.raises(BlockNotFound):
                await one.get(block(1))

    asyncio.run(run())


def test_an_end_that_is_told_to_finish_answers_what_was_asked_and_asks_no_more() -> None:
    mine = [block(n) for n in range(100)]

    async def run() -> None:
        async with linked(mine, [block(7)]) as (one, other):
            await other.get(mine[0])
            asked = [other.get(wanted) for wanted in mine]
            owed = one.get(block(7))
            assert one.link.answering is not None
            for _ in range(1000):
                await asyncio.sleep(0)
                if one.link.answering.is_busy:
                    break
            one.link.finish()
            assert await asyncio.gather(*asked) == mine
            with pytest.raises(StoreUnavailable):
                await owed
            with pytest.raises(StoreUnavailable):
                await one.get(block(7))
            await other.link.closed
            await one.link.closed
            await one.idle.wait()

    asyncio.run(run())


def test_a_lost_link_fails_what_waits_at_both_ends() -> None:
    async def run() -> None:
        async with linked([], []) as (one, other):
            asked = [one.get(block(1)), other.get(block(2))]
            one.link.abort()
            for result in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(result, StoreUnavailable | BlockNotFound)
            await other.link.closed
            await other.idle.wait()
            assert not one.asking.usable and not other.asking.usable

    asyncio.run(run())


def test_two_ends_that_flood_each_other_go_on() -> None:
    """Each has more to send than the kernel and the write buffers hold, at the same time."""
    many = [block(n, BlockSize.LARGE) for n in range(64)]

    async def run() -> None:
        async with linked(many, many) as (one, other):
            for _ in range(8):
                asked = [end.get(wanted) for end in (one, other) for wanted in many * 4]
                assert await asyncio.gather(*asked) == many * 8

    asyncio.run(run())


def test_an_end_without_anything_to_give_refuses_what_it_is_asked() -> None:
    async def run() -> None:
        left, right = socket.socketpair()
        loop = asyncio.get_running_loop()
        link = Link(asking=lambda link: Requester(link, "a store", 16, _TIMEOUT_S))
        async with asyncio.timeout(_TIMEOUT_S):
            await loop.create_unix_connection(lambda: link, sock=left)
            reader, writer = await asyncio.open_unix_connection(sock=right)
            writer.write(b"\x00\xe1" + format_message(Code.GET, b"t"))
            data = b""
            while len(parsed := parse_messages(data)) < 2:
                data += await reader.read(4096)
            assert (parsed[1].code, parsed[1].token) == (Code.NOT_FOUND, b"t")
            writer.close()
            await link.closed

    asyncio.run(run())


def test_large_requests_that_wait_are_bounded_by_their_bytes() -> None:
    question = request_bytes(Code.FETCH, BLOCKS_PATH, bytes(32) * 1024)

    async def run() -> None:
        storage = MemoryStorage(hold=True)
        access = BlockAccess(cast(BatchedStorage, storage), Rights(get=True), Statistics())
        lane, line = AiocoapLane(access, _report), Turns().line()
        peers = Peers(access, lane, line, 8, lambda: None)
        link = Link(
            lambda link: Answering(link, access, lane, line, peers),
            lambda link: Requester(link, "a peer", 16, _TIMEOUT_S),
        )
        transport = FakeTransport(link)
        link.connection_made(transport)
        link.data_received(EMPTY_CSM)
        sent = 0
        while transport.reading and sent < 1000:
            link.data_received(question)
            sent += 1
            await asyncio.sleep(0)
        assert 100 < sent < 300
        # It goes on by itself, and all are answered.
        storage.hold = False
        storage.deliver()

        def answers() -> int:
            return sum(one.code < Code.CSM for one in parse_messages(bytes(transport.output)))

        async with asyncio.timeout(_TIMEOUT_S):
            while answers() < sent or not transport.reading:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        link.abort()
        await link.closed

    asyncio.run(run())

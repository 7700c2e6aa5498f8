"""A seed among the connections of a listener: how it becomes one, and when its answers are read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine

from eris import reference_of
from kapla.coap.blocks import block_query
from kapla.coap.frame import Code, Message, format_message
from kapla.coap.link import Link
from kapla.seeds.first import SeedsFirst
from kapla.seeds.seeds import Seeds
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    EMPTY_CSM,
    LARGE,
    SMALL,
    FakeTransport,
    MemoryStorage,
    Server,
    parse_messages,
    request_bytes,
)

SEED = request_bytes(Code.POST, [(11, b"kapla"), (11, b"seed")], token=b"s")


class Place:
    """A daemon in memory, a client of it, and a seed."""

    def __init__(self) -> None:
        self.seeds = Seeds()
        reach = SeedsFirst(self.seeds, None, lambda asker: True)
        self.server = Server(
            MemoryStorage([LARGE]), uid=os.geteuid(), beyond=reach, seeds=self.seeds
        )
        self.link, self.transport = self.connect()

    def connect(self) -> tuple[Link, FakeTransport]:
        link, transport = self.server.connect(os.geteuid())
        link.data_received(EMPTY_CSM)
        return link, transport

    async def seed_is_told(self) -> list[Message]:
        """What was sent to the seed since the last time."""
        await self.server.settle()
        told = parse_messages(bytes(self.transport.output))
        self.transport.output.clear()
        return [message for message in told if message.code < Code.CSM]


def run(test: Callable[[Place], Coroutine[None, None, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test(Place())

    asyncio.run(bounded())


def get(block: bytes) -> bytes:
    return request_bytes(Code.GET, [*BLOCKS_PATH, (15, block_query(reference_of(block)))])


def test_what_it_answers_is_read_at_once_and_what_it_asks_in_its_turn() -> None:
    async def test(place: Place) -> None:
        place.link.data_received(SEED)
        [answer] = await place.seed_is_told()
        assert answer.code == Code.CHANGED
        place.server.feed(get(SMALL))
        [question] = await place.seed_is_told()
        assert place.link.answering is not None
        place.link.answering.turn.may_go_on = lambda: False  # type: ignore[method-assign]
        answer_bytes = format_message(Code.CONTENT, question.token, payload=SMALL)
        place.link.data_received(answer_bytes + get(LARGE))
        await place.server.settle()
        [response] = place.server.responses()
        assert (response.code, response.payload) == (Code.CONTENT, SMALL)
        assert await place.seed_is_told() == []
        del place.link.answering.turn.may_go_on
        place.link.answering.take_turn()
        [own] = await place.seed_is_told()
        assert own.payload == LARGE

    run(test)


def test_what_it_answers_is_no_time_of_its_listener() -> None:
    """Else those who asked by another listener would wait for it, as for programs there."""

    async def test(place: Place) -> None:
        place.link.data_received(SEED)
        await place.seed_is_told()
        place.server.feed(get(SMALL))
        [question] = await place.seed_is_told()
        assert place.link.answering is not None
        turn = place.link.answering.turn
        before = turn.had
        place.link.data_received(format_message(Code.CONTENT, question.token, payload=SMALL))
        await place.server.settle()
        assert turn.had == before
        place.link.data_received(get(LARGE))
        assert turn.had > before

    run(test)


def test_what_came_behind_the_word_that_it_is_one_stays_in_order() -> None:
    async def test(place: Place) -> None:
        place.link.data_received(SEED + get(LARGE) + get(SMALL))
        answers = await place.seed_is_told()
        assert [answer.code for answer in answers] == [
            Code.CHANGED,
            Code.CONTENT,
            Code.NOT_FOUND,
        ]

    run(test)


def test_where_there_can_be_none_there_is_no_such_path() -> None:
    async def test(place: Place) -> None:
        server = Server(MemoryStorage(), uid=os.geteuid())
        assert (await server.ask(SEED)).code == Code.NOT_FOUND

    run(test)


def test_when_the_listener_stops_it_is_told_after_those_who_ask() -> None:
    async def test(place: Place) -> None:
        place.link.data_received(SEED)
        await place.seed_is_told()
        place.server.feed(get(SMALL))
        [question] = await place.seed_is_told()
        peers = place.server.peers
        assert peers.only_asking == 1
        peers.finish(only_asking=True)
        assert not place.transport.is_closing()
        place.link.data_received(format_message(Code.CONTENT, question.token, payload=SMALL))
        await place.server.settle()
        assert place.server.responses()[-1].payload == SMALL
        peers.finish()
        assert place.transport.is_closing()

    run(test)

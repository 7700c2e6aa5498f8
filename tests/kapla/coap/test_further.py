"""What is not here is asked of others, for those who may cause that; and what may be given on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import pytest

from eris import Reference, reference_of
from eris.errors import BlockNotFound, StoreUnavailable
from kapla.coap.beyond import FULL_HOPS, Found, FoundDone, hops_left
from kapla.coap.blocks import block_query, get_options, pack_bitmap, put_options
from kapla.coap.frame import (
    Code,
    Message,
    Option,
    encode_options,
    format_frame,
    format_message,
)
from kapla.storage.access import Rights
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    LARGE,
    SMALL,
    MemoryStorage,
    Server,
    parse_messages,
    request_bytes,
)

LENT = (65000, b"")
USER = 1000
_NAME, _LARGE_NAME = reference_of(SMALL), reference_of(LARGE)


class Others:
    """What a server asks others for: noted, and answered when the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[Reference, int]] = []
        self.waiting: list[tuple[object, FoundDone]] = []
        self.sought: list[tuple[list[Reference], int]] = []
        self.left = 0

    def fetch(self, reference: Reference, hops: int, asker: object, done: FoundDone) -> None:
        self.asked.append((reference, hops))
        self.waiting.append((asker, done))

    async def find(self, references: Sequence[Reference], hops: int, asker: object) -> list[bool]:
        self.sought.append((list(references), hops))
        return [name == _LARGE_NAME for name in references]

    def reaches(self, hops: int) -> bool:
        return hops > 0

    def leave(self, asker: object) -> None:
        self.left += 1
        mine = [done for one, done in self.waiting if one is asker]
        self.waiting = [item for item in self.waiting if item[0] is not asker]
        for done in mine:
            done(StoreUnavailable("gone"))


def get(reference: Reference, hops: int = 0, *more: Option, token: bytes = b"t") -> bytes:
    if more:
        hop: list[Option] = [(16, bytes([hops]))] if hops else []
        options = [*BLOCKS_PATH, (15, block_query(reference)), *hop, *more]
        return request_bytes(Code.GET, options, token=token)
    body = get_options((), block_query(reference), 1024, hops)
    return format_frame(Code.GET, token, body)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def ask(server: Server, data: bytes) -> list[Message]:
    """Feed a request; returns the answers that have come then."""
    before = len(server.transport.output)
    server.feed(data)
    await server.settle()
    return parse_messages(bytes(server.transport.output[before:]))


@pytest.mark.parametrize(
    ("received", "begins", "left"),
    [
        (None, True, 4),
        (None, False, 3),
        (4, True, 3),
        (1, True, 0),
        (1, False, 0),
        (255, False, 254),
    ],
)
def test_a_request_goes_so_far(received: int | None, begins: bool, left: int) -> None:
    assert hops_left(received, begins=begins) == left


@pytest.mark.parametrize("more", [(), ((23, b"\x06"),)], ids=["fast lane", "slow lane"])
@pytest.mark.parametrize(("hops", "asked"), [(0, FULL_HOPS), (3, 2), (2, 1)])
def test_what_is_not_here_is_asked_of_others(
    hops: int, asked: int, more: tuple[Option, ...]
) -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage(), uid=USER, beyond=others)
        assert await ask(server, get(_NAME, hops, *more)) == []
        assert others.asked == [(_NAME, asked)]
        others.waiting[0][1](Found(SMALL, True, "desktop"))
        await server.settle()
        answer = server.responses()[-1]
        assert (answer.code, answer.payload) == (Code.CONTENT, SMALL)
        assert (LENT in answer.options) == (hops > 0)

    run(test)


@pytest.mark.parametrize("more", [(), ((23, b"\x06"),)], ids=["fast lane", "slow lane"])
def test_a_request_that_may_go_no_further_ends_here(more: tuple[Option, ...]) -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage(), uid=USER, beyond=others)
        (answer,) = await ask(server, get(_NAME, 1, *more))
        assert (answer.code, others.asked) == (Code.NOT_FOUND, [])

    run(test)


def test_a_received_hop_limit_of_zero_is_a_bad_request() -> None:
    async def test() -> None:
        server = Server(MemoryStorage([SMALL]), uid=USER, beyond=Others())
        body = encode_options([*BLOCKS_PATH, (15, block_query(_NAME)), (16, b"\0")])
        (answer,) = await ask(server, format_frame(Code.GET, b"t", body))
        assert answer.code == Code.BAD_REQUEST

    run(test)


@pytest.mark.parametrize("value", [b"", b"\1\0"])
def test_a_hop_limit_of_another_form_is_passed_over(value: bytes) -> None:
    async def test() -> None:
        server = Server(MemoryStorage([SMALL]), uid=USER, beyond=Others())
        body = encode_options([*BLOCKS_PATH, (15, block_query(_NAME)), (16, value)])
        (answer,) = await ask(server, format_frame(Code.GET, b"t", body))
        assert (answer.code, answer.payload, answer.options) == (Code.CONTENT, SMALL, ())

    run(test)


def test_nobody_is_asked_where_there_is_nobody() -> None:
    async def test() -> None:
        server = Server(MemoryStorage(), uid=USER)
        (answer,) = await ask(server, get(_NAME))
        assert answer.code == Code.NOT_FOUND

    run(test)


def test_what_is_here_is_answered_without_waiting_for_others() -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage([LARGE]), uid=USER, beyond=others)
        both = get(_NAME, token=b"a") + get(_LARGE_NAME, token=b"b")
        (answer,) = await ask(server, both)
        assert (answer.token, answer.payload) == (b"b", LARGE)
        others.waiting[0][1](BlockNotFound(_NAME))
        await server.settle()
        assert (server.responses()[-1].token, server.responses()[-1].code) == (
            b"a",
            Code.NOT_FOUND,
        )

    run(test)


def test_whoever_goes_leaves_nothing_behind() -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage(), uid=USER, beyond=others)
        for number in range(50):
            await ask(server, get(Reference(bytes([number]) * 32)))
            await ask(server, get(Reference(bytes([number]) * 32), 0, (23, b"\x06")))
        assert len(others.waiting) == 100
        server.transport.abort()
        await server.settle()
        assert (others.left, others.waiting) == (1, [])
        assert server.closed == [server.peer]
        assert len(asyncio.all_tasks()) == 1

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        get(_NAME),
        get(_NAME, 0, (23, b"\x06")),
        format_frame(Code.FETCH, b"t", put_options((), 4) + b"\xff" + _NAME),
    ],
    ids=["fast lane", "slow lane", "fetch"],
)
def test_what_the_store_answers_when_whoever_asked_has_gone_is_asked_of_nobody(
    request_: bytes,
) -> None:
    async def test() -> None:
        others, storage = Others(), MemoryStorage(hold=True)
        server = Server(storage, uid=USER, beyond=others)
        assert await ask(server, request_) == []
        server.transport.abort()
        await server.settle()
        assert others.left == 1
        storage.deliver()
        await server.settle()
        # It would be on behalf of one of whom nobody tells any more that it has left.
        assert (others.asked, others.sought) == ([], [])

    run(test)


@pytest.mark.parametrize("more", [(), ((23, b"\x06"),)], ids=["fast lane", "slow lane"])
def test_nobody_is_asked_for_one_who_went_while_the_store_was_asked(
    more: tuple[Option, ...],
) -> None:
    """Nothing would ever be left for it again."""

    async def test() -> None:
        others, storage = Others(), MemoryStorage(hold=True)
        server = Server(storage, uid=USER, beyond=others)
        await ask(server, get(_NAME, 4, *more))
        body = put_options((), 4) + b"\xff" + _NAME
        await ask(server, format_frame(Code.FETCH, b"f", body))
        server.transport.abort()
        await server.settle()
        storage.deliver()
        await server.settle()
        storage.deliver()
        await server.settle()
        assert (others.left, others.asked, others.sought) == (1, [], [])
        assert server.closed == [server.peer]
        assert len(asyncio.all_tasks()) == 1

    run(test)


def test_only_who_asks_what_it_may_give_on_is_told_though_others_ask_beside_it() -> None:
    async def test() -> None:
        storage = MemoryStorage([SMALL, LARGE])
        storage.lent = {_NAME, _LARGE_NAME}
        server = Server(storage)
        both = get(_NAME, 1, token=b"a") + get(_LARGE_NAME, token=b"b")
        marked, plain = await ask(server, both)
        assert (LENT in marked.options, LENT in plain.options) == (True, False)

    run(test)


@pytest.mark.parametrize("more", [(), ((23, b"\x06"),)], ids=["fast lane", "slow lane"])
@pytest.mark.parametrize(
    "rights", [Rights(get=True), Rights(get=False, lend=True)], ids=["get", "lend"]
)
def test_a_peer_is_told_what_it_may_give_on(rights: Rights, more: tuple[Option, ...]) -> None:
    async def test() -> None:
        storage = MemoryStorage([SMALL, LARGE])
        storage.lent = {_LARGE_NAME}
        server = Server(storage, rights)
        (lent,) = await ask(server, get(_LARGE_NAME, 1, *more))
        size = LARGE[: len(lent.payload)]
        assert (lent.code, lent.payload) == (Code.CONTENT, size)
        assert LENT in lent.options
        (private,) = await ask(server, get(_NAME, 1, *more))
        assert private.code == (Code.CONTENT if rights.get else Code.NOT_FOUND)
        assert LENT not in private.options
        (plain,) = await ask(server, get(_LARGE_NAME, 0, *more))
        assert LENT not in plain.options

    run(test)


def test_a_fetch_with_a_hop_limit_tells_what_others_have_too() -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage([SMALL]), uid=USER, beyond=others)
        names = [_NAME, Reference(bytes(32)), _LARGE_NAME]

        async def found(hops: int) -> bytes:
            body = put_options((), hops) + b"\xff" + b"".join(names)
            (answer,) = await ask(server, format_frame(Code.FETCH, b"t", body))
            return answer.payload

        assert await found(0) == pack_bitmap([True, False, False])
        assert await found(1) == pack_bitmap([True, False, False])
        assert others.sought == []
        assert await found(4) == pack_bitmap([True, False, True])
        assert others.sought == [(names[1:], 3)]

    run(test)


@pytest.mark.parametrize("end", ["release", "end of input", "this side stops"])
@pytest.mark.parametrize("with_custody", [False, True])
def test_what_others_gave_is_still_sent_when_the_connection_ends(
    end: str, with_custody: bool
) -> None:
    async def test() -> None:
        others = Others()
        server = Server(MemoryStorage(), uid=USER, beyond=others)
        await ask(server, get(_NAME))
        if with_custody:
            server.feed(format_message(Code.PING, b"p", [(2, b"")]))
        if end == "release":
            server.feed(format_message(Code.RELEASE))
        elif end == "end of input":
            server.peer.eof_received()
        else:
            server.peer.finish()
        others.waiting[0][1](Found(SMALL, True, "desktop"))
        await server.settle()
        codes = [message.code for message in server.messages()]
        assert Code.CONTENT in codes
        assert (Code.PONG in codes) == with_custody
        assert server.transport.is_closing()

    run(test)

"""Payloads in pieces: RFC 7959, both ways."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eris import reference_of
from kapla.coap.frame import Code, Message, Option, encode_uint, format_message
from kapla.storage.access import Rights
from tests.kapla.coap.harness import (
    BLOCKS_PATH,
    LARGE,
    SMALL,
    SMALL_CSM,
    MemoryStorage,
    Server,
    request_bytes,
)

BLOCK1, BLOCK2, SIZE2 = 27, 23, 28


def piece_value(number: int, more: bool, exponent: int) -> bytes:
    return encode_uint(number << 4 | more << 3 | exponent)


def put_piece(
    number: int,
    more: bool,
    exponent: int,
    payload: bytes,
    path: list[Option] = BLOCKS_PATH,
    token: bytes = b"t",
) -> bytes:
    block1 = (BLOCK1, piece_value(number, more, exponent))
    return request_bytes(Code.PUT, [*path, block1], payload, token)


def pieces_of(block: bytes, exponent: int) -> list[bytes]:
    """The requests of a PUT in pieces."""
    size = 1 << min(exponent, 6) + 4
    return [
        put_piece(start // size, start + size < len(block), exponent, block[start : start + size])
        for start in range(0, len(block), size)
    ]


def get_piece(reference: bytes, number: int | None = None, exponent: int = 6) -> bytes:
    options = [*BLOCKS_PATH, (15, reference)]
    if number is not None:
        options.append((BLOCK2, piece_value(number, False, exponent)))
    return request_bytes(Code.GET, options)


def option_of(message: Message, number: int) -> int:
    (value,) = message.values(number)
    return int.from_bytes(value, "big")


# --- PUT --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [SMALL, LARGE])
@pytest.mark.parametrize("exponent", [6, 5, 2, 0])
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_put_in_pieces(block: bytes, exponent: int, pipelined: bool) -> None:
    async def run() -> None:
        server = Server()
        requests = pieces_of(block, exponent)
        if pipelined:
            server.feed(b"".join(requests))
            while len(server.responses()) < len(requests):
                await server.settle()
            responses = server.responses()
        else:
            responses = [await server.ask(request) for request in requests]
        assert [message.code for message in responses[:-1]] == [Code.CONTINUE] * (len(requests) - 1)
        assert responses[-1].code == Code.CREATED
        # Each piece is acknowledged with its own number.
        assert [option_of(message, BLOCK1) >> 4 for message in responses] == list(
            range(len(requests))
        )
        assert server.storage.blocks == {reference_of(block): block}

    asyncio.run(run())


def test_pieces_of_several_kibibytes_as_libcoap_may_send_them() -> None:
    async def run() -> None:
        server = Server()  # size exponent 7 (BERT): numbers count KiB, a message holds several
        assert (await server.ask(put_piece(0, True, 7, LARGE[:8192]))).code == Code.CONTINUE
        assert (await server.ask(put_piece(8, True, 7, LARGE[8192:20480]))).code == Code.CONTINUE
        assert (await server.ask(put_piece(20, False, 7, LARGE[20480:]))).code == Code.CREATED
        assert server.storage.blocks == {reference_of(LARGE): LARGE}

    asyncio.run(run())


@given(st.permutations(range(4)))
def test_pieces_in_another_order_are_incomplete(order: list[int]) -> None:
    async def run() -> None:
        server = Server()
        requests = pieces_of(SMALL, 4)
        codes = [(await server.ask(requests[index])).code for index in order]
        assert (codes[-1] == Code.CREATED) is (list(order) == [0, 1, 2, 3])
        assert set(codes) <= {Code.CONTINUE, Code.CREATED, Code.REQUEST_ENTITY_INCOMPLETE}
        assert (SMALL in server.storage.blocks.values()) is (codes[-1] == Code.CREATED)
        # Whatever was left of it, the next PUT starts anew.
        codes = [(await server.ask(request)).code for request in requests]
        assert codes[-1] == Code.CREATED

    asyncio.run(run())


@pytest.mark.parametrize(
    "wrong",
    [
        put_piece(2, True, 4, SMALL[512:768]),  # a gap
        put_piece(1, True, 5, SMALL[256:768]),  # another size: starts at 512
    ],
)
def test_a_gap_forgets_the_transfer(wrong: bytes) -> None:
    async def run() -> None:
        server = Server()
        requests = pieces_of(SMALL, 4)
        assert (await server.ask(requests[0])).code == Code.CONTINUE
        assert (await server.ask(wrong)).code == Code.REQUEST_ENTITY_INCOMPLETE
        assert (await server.ask(requests[1])).code == Code.REQUEST_ENTITY_INCOMPLETE

    asyncio.run(run())


def test_a_piece_that_is_too_short_is_noticed() -> None:
    async def run() -> None:
        server = Server()
        assert (await server.ask(put_piece(0, True, 4, SMALL[:255]))).code == Code.CONTINUE
        response = await server.ask(put_piece(1, True, 4, SMALL[255:511]))
        assert response.code == Code.REQUEST_ENTITY_INCOMPLETE

    asyncio.run(run())


def test_a_transfer_may_start_again() -> None:
    async def run() -> None:
        server = Server()
        requests = pieces_of(SMALL, 4)
        for request in [*requests[:3], *requests]:
            response = await server.ask(request)
        assert response.code == Code.CREATED
        assert server.storage.blocks == {reference_of(SMALL): SMALL}

    asyncio.run(run())


def test_more_than_a_block_is_too_large() -> None:
    async def run() -> None:
        server = Server()
        requests = pieces_of(LARGE + bytes(1024), 6)
        codes = [(await server.ask(request)).code for request in requests]
        assert codes == [Code.CONTINUE] * 32 + [Code.REQUEST_ENTITY_TOO_LARGE]
        # And forgotten: what follows belongs to nothing.
        response = await server.ask(put_piece(33, False, 6, b"x"))
        assert response.code == Code.REQUEST_ENTITY_INCOMPLETE

    asyncio.run(run())


def test_one_piece_beyond_the_limit() -> None:
    async def run() -> None:
        response = await Server().ask(put_piece(0, True, 7, bytes(32769)))
        assert response.code == Code.REQUEST_ENTITY_TOO_LARGE

    asyncio.run(run())


@pytest.mark.parametrize("size", [1000, 1025])
def test_pieces_that_make_no_block(size: int) -> None:
    async def run() -> None:
        server = Server()
        responses = [await server.ask(request) for request in pieces_of(bytes(size), 4)]
        assert responses[-1].code == Code.BAD_REQUEST
        assert server.storage.blocks == {}

    asyncio.run(run())


def test_pieces_to_a_read_only_listener() -> None:
    async def run() -> None:
        server = Server(rights=Rights(get=True))
        responses = [await server.ask(request) for request in pieces_of(SMALL, 4)]
        assert responses[-1].code == Code.FORBIDDEN
        assert server.storage.blocks == {}

    asyncio.run(run())


def first_piece(query: bytes) -> bytes:
    return put_piece(0, True, 6, bytes(1024), [*BLOCKS_PATH, (15, query)])


def test_too_many_transfers_at_once() -> None:
    async def run() -> None:
        server = Server()
        for index in range(4):
            assert (await server.ask(first_piece(b"%d" % index))).code == Code.CONTINUE
        response = await server.ask(first_piece(b"4"))
        assert response.code == Code.SERVICE_UNAVAILABLE
        assert b"pieces" in response.payload
        # One that was begun may begin again, and whoever sends whole blocks is not held up.
        assert (await server.ask(first_piece(b"3"))).code == Code.CONTINUE
        assert (await server.ask(request_bytes(Code.PUT, BLOCKS_PATH, SMALL))).code == Code.CREATED
        # An ended one makes room.
        ended = put_piece(1, False, 6, b"", [*BLOCKS_PATH, (15, b"3")])
        assert (await server.ask(ended)).code == Code.CREATED
        assert (await server.ask(first_piece(b"4"))).code == Code.CONTINUE

    asyncio.run(run())


def test_pieces_belong_to_their_connection() -> None:
    async def run() -> None:
        storage = MemoryStorage()
        first, other = Server(storage), Server(storage)
        requests = pieces_of(SMALL, 4)
        assert (await first.ask(requests[0])).code == Code.CONTINUE
        assert (await other.ask(requests[1])).code == Code.REQUEST_ENTITY_INCOMPLETE
        first.transport.abort()
        await first.settle()
        again = Server(storage)
        assert (await again.ask(requests[1])).code == Code.REQUEST_ENTITY_INCOMPLETE

    asyncio.run(run())


def test_a_fetch_in_pieces() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([SMALL]))
        payload = bytes(32 * 999) + reference_of(SMALL)
        for start in range(0, len(payload), 1024):
            more = start + 1024 < len(payload)
            block1 = (BLOCK1, piece_value(start // 1024, more, 6))
            request = request_bytes(
                Code.FETCH, [*BLOCKS_PATH, block1], payload[start : start + 1024]
            )
            response = await server.ask(request)
            assert response.code == (Code.CONTINUE if more else Code.CONTENT)
        assert response.payload == bytes(124) + b"\x01"

    asyncio.run(run())


# --- GET --------------------------------------------------------------------------------------


def test_a_peer_that_takes_whole_blocks_gets_them_whole() -> None:
    async def run() -> None:
        response = await Server(MemoryStorage([LARGE])).ask(get_piece(reference_of(LARGE)))
        assert response == Message(Code.CONTENT, b"t", (), LARGE)

    asyncio.run(run())


@pytest.mark.parametrize(("most", "piece"), [(80, 16), (600, 512), (1152, 1024)])
@pytest.mark.parametrize("block", [SMALL, LARGE], ids=len)
def test_no_message_is_longer_than_the_peer_takes(most: int, piece: int, block: bytes) -> None:
    async def run() -> None:
        csm = format_message(Code.CSM, options=[(2, encode_uint(most)), (4, b"")])
        server = Server(MemoryStorage([block]), csm=csm)
        first = await server.ask(get_piece(reference_of(block)))
        assert len(first.payload) == piece
        # One that asks for more at once than it takes gets what it takes.
        again = await server.ask(get_piece(reference_of(block), 0, 6))
        assert again.payload == first.payload
        assert len(format_message(*first)) <= most

    asyncio.run(run())


@pytest.mark.parametrize("exponent", [6, 5, 0])
def test_a_peer_with_small_messages_gets_pieces(exponent: int) -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]), csm=SMALL_CSM)
        reference = reference_of(LARGE)
        first = await server.ask(get_piece(reference))
        assert option_of(first, BLOCK2) == 0 << 4 | 8 | 6
        assert option_of(first, SIZE2) == 32768
        assert first.payload == LARGE[:1024]
        size = 1 << exponent + 4
        whole, number, more = b"", 0, True
        while more:
            response = await server.ask(get_piece(reference, number, exponent))
            assert response.code == Code.CONTENT
            assert len(format_message(*response)) <= 1152
            value = option_of(response, BLOCK2)
            assert (value >> 4, value & 7) == (number, exponent)
            assert len(response.payload) == size
            whole += response.payload
            more = bool(value & 8)
            number += 1
        assert whole == LARGE
        assert number == 32768 // size

    asyncio.run(run())


def test_a_peer_with_small_messages_gets_a_small_block_whole() -> None:
    async def run() -> None:
        server = Server(MemoryStorage([SMALL]), csm=SMALL_CSM)
        response = await server.ask(get_piece(reference_of(SMALL)))
        assert response == Message(Code.CONTENT, b"t", (), SMALL)
        missing = await server.ask(get_piece(bytes(32)))
        assert missing == Message(Code.NOT_FOUND, b"t", (), b"")

    asyncio.run(run())


@given(st.integers(0, (1 << 20) - 1), st.integers(0, 7))
def test_any_piece_may_be_asked_for(number: int, exponent: int) -> None:
    async def run() -> None:
        server = Server(MemoryStorage([LARGE]))
        response = await server.ask(get_piece(reference_of(LARGE), number, exponent))
        size = 1 << min(exponent, 6) + 4
        start = number * size
        if start >= len(LARGE):
            assert response.code == Code.BAD_REQUEST
            return
        assert response.code == Code.CONTENT
        assert response.payload == LARGE[start : start + size]
        value = option_of(response, BLOCK2)
        assert value >> 4 == number
        assert bool(value & 8) is (start + size < len(LARGE))

    asyncio.run(run())


def test_a_piece_of_a_missing_block() -> None:
    async def run() -> None:
        response = await Server().ask(get_piece(bytes(32), 3))
        assert response == Message(Code.NOT_FOUND, b"t", (), b"")

    asyncio.run(run())


def test_a_put_may_say_in_what_pieces_it_wants_the_answer() -> None:
    async def run() -> None:
        server = Server()
        request = request_bytes(Code.PUT, [*BLOCKS_PATH, (BLOCK2, b"\x06")], SMALL)
        response = await server.ask(request)
        assert (response.code, response.payload) == (Code.CREATED, b"")

    asyncio.run(run())

"""Both lanes, and what is settled before they part: the same question has the same answer."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import reference_of
from eris.base32 import format_base32
from eris.errors import StoreUnavailable
from kapla.coap import fast_lane
from kapla.coap.blocks import pack_bitmap, unpack_bitmap
from kapla.coap.frame import Code, Message, Option, encode_options, format_frame, format_message
from kapla.storage.access import Rights
from tests.examples import examples
from tests.kapla.coap.harness import (
    ALL_RIGHTS,
    BLOCKS_PATH,
    LARGE,
    SMALL,
    MemoryStorage,
    Server,
    ask_slow_lane,
    request_bytes,
)

ROOT_PATH: list[Option] = [(11, b"blocks")]
PATHS = [BLOCKS_PATH, ROOT_PATH]
CORE: list[Option] = [(11, b".well-known"), (11, b"core")]
STAT: list[Option] = [(11, b"kapla"), (11, b"stat")]
SMALL_REFERENCE, LARGE_REFERENCE = reference_of(SMALL), reference_of(LARGE)
MISSING = reference_of(b"missing")


def text(reference: bytes) -> bytes:
    return format_base32(reference).encode()


def ask(
    data: bytes, *, rights: Rights = ALL_RIGHTS, storage: MemoryStorage | None = None
) -> Message:
    """Ask through a whole connection, and hold the answer against the aiocoap lane's."""

    async def both() -> Message:
        server = Server(storage or MemoryStorage([SMALL, LARGE]), rights)
        response = await server.ask(data)
        assert server.peer not in server.closed
        assert response == await ask_slow_lane(data, server.storage, rights)
        return response

    return asyncio.run(both())


def get(*options: Option, path: list[Option] = BLOCKS_PATH, code: int = Code.GET) -> Message:
    return ask(request_bytes(code, [*path, *options]))


# --- the fast lane ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", [SMALL_REFERENCE, text(SMALL_REFERENCE), bytes(32), b"A" * 52])
@pytest.mark.parametrize("size", [None, b"\x04\x00", b"\x80\x00"])
def test_common_gets_are_recognised(path: list[Option], query: bytes, size: bytes | None) -> None:
    options = [*path, (15, query), *([] if size is None else [(60, size)])]
    body = encode_options(options)
    found = fast_lane.requested_reference(b"before" + body + b"after", 6, 6 + len(body))
    assert found is not None
    assert query in (found, text(found))
    # Cut off, or with a byte more, it is another message.
    assert fast_lane.requested_reference(body + b"\x00", 0, len(body) - 1) is None
    assert fast_lane.requested_reference(body + b"\x00", 0, len(body) + 1) is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block", [SMALL, LARGE])
def test_common_puts_are_recognised(path: list[Option], block: bytes) -> None:
    body = encode_options(path) + b"\xff" + block
    start = fast_lane.put_payload_start(b"before" + body, 6, 6 + len(body))
    assert start == 6 + len(body) - len(block)
    assert fast_lane.put_payload_start(body + b"\0", 0, len(body) + 1) is None
    assert fast_lane.put_payload_start(body, 0, len(body) - 1) is None


@given(st.binary(max_size=150))
def test_other_bytes_are_not(body: bytes) -> None:
    assert fast_lane.requested_reference(body, 0, len(body)) is None
    assert fast_lane.put_payload_start(body, 0, len(body)) is None


@given(st.integers(0, 200), st.integers(0, 255))
def test_one_other_byte_and_it_is_another_request(at: int, value: int) -> None:
    body = bytearray(encode_options([*BLOCKS_PATH, (15, SMALL_REFERENCE), (60, b"\x04\x00")]))
    at %= len(body)
    query = body.index(SMALL_REFERENCE)
    body[at] = value
    found = fast_lane.requested_reference(bytes(body), 0, len(body))
    assert found in (None, bytes(body[query : query + 32]))
    if not query <= at < query + 32 and found is not None:
        original = encode_options([*BLOCKS_PATH, (15, SMALL_REFERENCE), (60, b"\x04\x00")])
        assert bytes(body) in (original, original[:-2] + b"\x80\x00")


def test_common_requests_do_not_reach_the_aiocoap_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[Message]:
        server = Server(MemoryStorage([SMALL]))
        monkeypatch.delattr(server.lane.__class__, "answer")
        server.feed(request_bytes(Code.GET, [*BLOCKS_PATH, (15, SMALL_REFERENCE)]))
        server.feed(request_bytes(Code.PUT, ROOT_PATH, LARGE))
        await server.settle()
        return server.responses()

    assert [message.code for message in asyncio.run(run())] == [Code.CONTENT, Code.CREATED]


@pytest.mark.parametrize("token", [bytes(n) for n in range(9)])
def test_the_fast_answers_are_what_the_formatter_writes(token: bytes) -> None:
    for block in (SMALL, LARGE):
        expected = format_message(Code.CONTENT, token, payload=block)
        assert fast_lane.answer_block(token, block) == expected
    assert fast_lane.answer_empty(Code.CREATED, token) == format_message(Code.CREATED, token)


def test_a_stored_block_of_impossible_size_is_not_there() -> None:
    storage = MemoryStorage()
    storage.blocks[SMALL_REFERENCE] = b"damaged"
    query = [*BLOCKS_PATH, (15, SMALL_REFERENCE)]
    response = ask(request_bytes(Code.GET, query), storage=storage)
    assert response == Message(Code.NOT_FOUND, b"t", (), b"")


# --- the same answer from both ----------------------------------------------------------------

REFERENCES = st.sampled_from([SMALL_REFERENCE, LARGE_REFERENCE, MISSING])
QUERIES = st.one_of(
    REFERENCES,
    REFERENCES.map(text),
    REFERENCES.map(lambda reference: text(reference).lower()),
    REFERENCES.map(lambda reference: text(reference)[:-1] + b"B"),  # spare bits that are not zero
    REFERENCES.map(lambda reference: text(reference)[:-1] + b"="),
    st.sampled_from([31, 33, 51, 53]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    st.sampled_from([b"", b"x=y", b"A" * 256, b"\xff" * 52, "é".encode() * 26]),
    st.binary(min_size=52, max_size=52),
)
SIZES = st.sampled_from([b"\x04\x00", b"\x80\x00", b"", b"\x00\x04\x00", b"\x01" * 9])
ODD_OPTIONS: st.SearchStrategy[tuple[list[Option], list[Option], list[Option]]] = st.one_of(
    st.tuples(
        st.sampled_from([3, 7, 17, 23, 27, 60, 12, 4, 6, 14, 20, 8, 258]), st.binary(max_size=4)
    ),
    st.tuples(st.integers(0, 300), st.binary(max_size=4)),
    st.sampled_from(
        [(17, b"\x2a"), (17, b"\x32"), (1, b""), (5, b""), (35, b"coap://x"), (39, b"coap")]
    ),
)
PAYLOADS = st.sampled_from([0, 1, 1023, 1024, 1025, 32767, 32768, 32769]).map(
    bytes
) | st.sampled_from([SMALL, LARGE])
RIGHTS = st.builds(Rights, *[st.booleans()] * 5)
OPTIONS: st.SearchStrategy[tuple[list[Option], list[Option], list[Option]]] = st.one_of(
    # Mostly what programs send, and something odd beside it now and then.
    st.tuples(st.sampled_from(PATHS), QUERIES.map(lambda q: [(15, q)]), st.just([])),
    st.tuples(
        st.sampled_from(PATHS), QUERIES.map(lambda q: [(15, q)]), SIZES.map(lambda s: [(60, s)])
    ),
    st.tuples(
        st.sampled_from([*PATHS, [], [(11, b"other")], [*ROOT_PATH, (11, b"")], [(11, b"\xff")]]),
        st.lists(QUERIES.map(lambda q: (15, q)), max_size=2),
        st.lists(ODD_OPTIONS, max_size=2),
    ),
    st.tuples(st.sampled_from(PATHS), st.just([]), st.just([])),
)


@settings(max_examples=examples(800))
@given(
    code=st.sampled_from([1, 1, 3, 3, 2, 4, 9]),
    parts=OPTIONS,
    payload=PAYLOADS,
    rights=RIGHTS,
    failing=st.booleans(),
)
def test_both_lanes_answer_the_same(
    code: int,
    parts: tuple[list[Option], list[Option], list[Option]],
    payload: bytes,
    rights: Rights,
    failing: bool,
) -> None:
    storage = MemoryStorage([SMALL, LARGE])
    storage.lent.add(LARGE_REFERENCE)
    if failing:
        storage.failure = StoreUnavailable("the disk is on fire")
    data = request_bytes(code, [option for part in parts for option in part], payload)
    response = ask(data, rights=rights, storage=storage)
    assert response.code != Code.INTERNAL_SERVER_ERROR
    assert response.payload in (b"", SMALL, LARGE) or response.payload.decode().isprintable()


PREFIXES = st.sampled_from(
    [encode_options(path) for path in ([], ROOT_PATH, [(11, b".well-known"), (11, b"core")])]
)


@settings(max_examples=examples(300))
@given(st.sampled_from([1, 3, 5, 7]), PREFIXES, st.binary(max_size=120))
def test_no_bytes_make_the_daemon_stumble(code: int, prefix: bytes, rest: bytes) -> None:
    async def run() -> Message:
        server = Server(MemoryStorage([SMALL]))
        return await server.ask(format_frame(code, b"t", prefix + rest))

    assert asyncio.run(run()).code != Code.INTERNAL_SERVER_ERROR


# --- GET --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block", [SMALL, LARGE])
def test_a_block_by_either_spelling(path: list[Option], block: bytes) -> None:
    reference = reference_of(block)
    expected = Message(Code.CONTENT, b"t", (), block)
    assert get((15, reference), path=path) == expected
    assert get((15, text(reference)), path=path) == expected
    # Size1 is a hint, whatever it says.
    assert get((15, reference), (60, b"\x04\x00"), path=path) == expected
    assert get((15, reference), (60, b"\x80\x00"), path=path) == expected
    assert get((15, reference), (60, b"\x07"), path=path) == expected


def test_a_missing_block() -> None:
    assert get((15, MISSING)) == Message(Code.NOT_FOUND, b"t", (), b"")


@pytest.mark.parametrize(
    "queries",
    [
        [],
        [SMALL_REFERENCE, SMALL_REFERENCE],
        [text(SMALL_REFERENCE), text(LARGE_REFERENCE)],
        [b""],
        [bytes(31)],
        [b"A" * 33],
        [b"A" * 51],
        [b"A" * 53],
        [b"\xff" * 31],
        [b"\xff" * 52],
        [text(SMALL_REFERENCE).lower()],
        [text(SMALL_REFERENCE)[:-1] + b"B"],
        [text(SMALL_REFERENCE)[:-1] + b"1"],
        [b"ref=" + text(SMALL_REFERENCE)],
    ],
)
def test_queries_that_are_no_reference(queries: list[bytes]) -> None:
    response = get(*((15, query) for query in queries))
    assert response.code == Code.BAD_REQUEST
    assert response.payload


def test_thirty_two_octets_are_a_reference_whatever_text_they_look_like() -> None:
    assert get((15, b"A" * 32)).code == Code.NOT_FOUND


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"\x2a", Code.CONTENT), (b"", Code.NOT_ACCEPTABLE), (b"\x32", Code.NOT_ACCEPTABLE)],
)
def test_accept(value: bytes, code: int) -> None:
    assert get((15, SMALL_REFERENCE), (17, value)).code == code


# --- PUT --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block", [SMALL, LARGE])
def test_put_keeps_a_block_and_says_so_again(path: list[Option], block: bytes) -> None:
    async def run() -> None:
        server = Server()
        for _ in range(2):  # clients accept nothing but 2.01, also when it is there
            response = await server.ask(request_bytes(Code.PUT, path, block))
            assert response == Message(Code.CREATED, b"t", (), b"")
        assert server.storage.blocks == {reference_of(block): block}

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, 1023, 1025, 32767, 32769, 65536])
def test_put_of_another_size(size: int) -> None:
    response = ask(request_bytes(Code.PUT, BLOCKS_PATH, bytes(size)))
    assert response.code == Code.BAD_REQUEST
    assert response.payload == f"{size} bytes: a block has 1024 or 32768".encode()


def test_put_to_a_read_only_listener() -> None:
    async def run() -> None:
        server = Server(rights=Rights(get=True))
        response = await server.ask(request_bytes(Code.PUT, BLOCKS_PATH, SMALL))
        assert response == Message(Code.FORBIDDEN, b"t", (), b"this store is read-only here")
        assert server.storage.blocks == {}
        assert server.statistics.refused == 1

    asyncio.run(run())


def test_get_from_a_listener_that_only_takes() -> None:
    data = request_bytes(Code.GET, [*BLOCKS_PATH, (15, SMALL_REFERENCE)])
    assert ask(data, rights=Rights(get=False, put=True)).code == Code.FORBIDDEN


LENDING = Rights(get=False, lend=True, put=True)


def test_what_is_not_lent_is_not_there_for_those_who_are_lent_to() -> None:
    storage = MemoryStorage([SMALL, LARGE])
    storage.lent.add(LARGE_REFERENCE)

    def get(reference: bytes) -> Message:
        data = request_bytes(Code.GET, [*BLOCKS_PATH, (15, reference)])
        return ask(data, rights=LENDING, storage=storage)

    assert get(LARGE_REFERENCE).payload == LARGE
    # To the last byte.
    assert get(SMALL_REFERENCE) == get(MISSING) == Message(Code.NOT_FOUND, b"t", (), b"")
    names = b"".join([SMALL_REFERENCE, LARGE_REFERENCE, MISSING])
    fetched = request_bytes(Code.FETCH, BLOCKS_PATH, names)
    assert ask(fetched, rights=LENDING, storage=storage).payload == bytes([0b01000000])
    # Whoever may get besides, gets everything.
    assert ask(fetched, rights=Rights(get=True, lend=True), storage=storage).payload == b"\xc0"


def test_a_failing_store_says_why() -> None:
    storage = MemoryStorage()
    storage.failure = StoreUnavailable("the disk is full")
    response = ask(request_bytes(Code.PUT, BLOCKS_PATH, SMALL), storage=storage)
    assert response == Message(Code.SERVICE_UNAVAILABLE, b"t", (), b"the disk is full")


# --- FETCH ------------------------------------------------------------------------------------


def fetch(*references: bytes, rights: Rights = ALL_RIGHTS) -> Message:
    return ask(request_bytes(Code.FETCH, BLOCKS_PATH, b"".join(references)), rights=rights)


@pytest.mark.parametrize(
    ("references", "bitmap"),
    [
        ([SMALL_REFERENCE], "80"),
        ([MISSING], "00"),
        ([MISSING, LARGE_REFERENCE, SMALL_REFERENCE], "60"),
        ([SMALL_REFERENCE] * 8, "ff"),
        ([MISSING] * 8 + [SMALL_REFERENCE], "0080"),
        ([SMALL_REFERENCE, MISSING] * 512, "aa" * 128),
    ],
)
def test_which_of_many_blocks_are_there(references: list[bytes], bitmap: str) -> None:
    assert fetch(*references) == Message(Code.CONTENT, b"t", (), bytes.fromhex(bitmap))


@pytest.mark.parametrize("payload", [b"", b"x", bytes(31), bytes(33), bytes(32 * 1025)], ids=len)
def test_fetches_that_make_no_sense(payload: bytes) -> None:
    response = fetch(payload)
    assert response.code == Code.BAD_REQUEST
    assert b"a FETCH takes 1 to 1024 references" in response.payload


def test_fetch_needs_the_right_to_get() -> None:
    assert fetch(MISSING, rights=Rights(get=False, put=True)).code == Code.FORBIDDEN
    assert fetch(MISSING, rights=Rights(get=True)).code == Code.CONTENT


@given(st.lists(st.booleans(), max_size=100))
def test_bitmaps(flags: list[bool]) -> None:
    data = pack_bitmap(flags)
    assert unpack_bitmap(data, len(flags)) == flags
    with pytest.raises(ValueError, match="bytes"):
        unpack_bitmap(data + b"\0", len(flags))


# --- what is settled before -------------------------------------------------------------------

GOOD = (15, SMALL_REFERENCE)


@pytest.mark.parametrize("number", [1, 5, 9, 13, 21, 25, 257, 65535])
def test_unknown_critical_options(number: int) -> None:
    for code in (Code.GET, Code.PUT):
        response = get((number, b""), GOOD, code=code)
        assert response.code == Code.BAD_OPTION
        assert response.payload == f"critical option {number} is not understood".encode()


@pytest.mark.parametrize(
    "option",
    [
        (2, b"x"),
        (4, b"etag"),
        (6, b""),
        (8, b"\xff"),  # a Location-Path that is not UTF-8: no concern of a request's
        (12, b"\x2a"),
        (12, b"\xff" * 40),
        (14, b"\x3c"),
        (16, b"\x10"),
        (20, b"\xff"),
        (252, b"echo"),
        (258, b"\x02"),
        (65534, b"x" * 300),
    ],
)
def test_elective_options_are_ignored(option: Option) -> None:
    assert get(option, GOOD) == Message(Code.CONTENT, b"t", (), SMALL)


def test_options_that_are_understood() -> None:
    assert get((3, b"example.org"), (7, b"\x16\x33"), GOOD).code == Code.CONTENT
    for host in (b"", b"[::", b"a/b?c#d@e", b"x" * 255, b"a%00b"):
        assert get((3, host), GOOD).code == Code.CONTENT


@pytest.mark.parametrize(
    "options",
    [
        [(3, b"a"), (3, b"a")],
        [(7, b""), (7, b"")],
        [(17, b"\x2a"), (17, b"\x2a")],
        [(23, b"\x06"), (23, b"\x06")],
        [(27, b"\x06"), (27, b"\x06")],
        [(3, b"x" * 256)],
        [(7, b"\0\x16\x33")],
        [(17, b"\0\0\x2a")],
        [(23, b"\0\0\0\x06")],
    ],
)
def test_critical_options_repeated_or_of_impossible_length(options: list[Option]) -> None:
    assert get(*options, GOOD).code == Code.BAD_OPTION


def test_if_match_is_not_understood() -> None:
    assert get((1, b"etag"), GOOD).code == Code.BAD_OPTION
    assert get((5, b""), code=Code.PUT).code == Code.BAD_OPTION


def test_this_is_not_a_proxy() -> None:
    assert get((35, b"coap://example.org/")).code == Code.PROXYING_NOT_SUPPORTED
    assert get((39, b"coap"), GOOD).code == Code.PROXYING_NOT_SUPPORTED


@pytest.mark.parametrize(
    "path",
    [
        [],
        [b""],
        [b"Blocks"],
        [b"blocks", b""],
        [b".well-known", b"eris"],
        [b".well-known", b"eris", b"blocks", b"x"],
        [b"stores", b"mine", b"blocks"],
        [b"\xff"],
        [b".well-known/eris/blocks"],
    ],
)
def test_unknown_paths(path: list[bytes]) -> None:
    for code in (Code.GET, Code.PUT, Code.POST):
        response = ask(request_bytes(code, [*((11, part) for part in path), GOOD]))
        assert response.code == Code.NOT_FOUND


@pytest.mark.parametrize("code", [Code.POST, Code.DELETE, Code.PATCH, Code.IPATCH])
def test_wrong_methods(code: int) -> None:
    assert ask(request_bytes(code, BLOCKS_PATH, SMALL)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("code", [Code.PUT, Code.POST, Code.DELETE, Code.FETCH])
def test_wrong_methods_elsewhere(code: int) -> None:
    for path in (CORE, STAT):
        assert ask(request_bytes(code, path, SMALL)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("code", [8, 31, 32, 63])
def test_unknown_methods(code: int) -> None:
    assert ask(request_bytes(code, BLOCKS_PATH)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("body", [b"\xff", b"\xf0", b"\xb9short", bytes(65), b"\xd0"])
def test_malformed_requests(body: bytes) -> None:
    for code in (Code.GET, Code.PUT):
        response = ask(format_frame(code, b"\x07", body))
        assert response.code == Code.BAD_REQUEST
        assert response.token == b"\x07"
        assert response.payload.decode().isprintable()


# --- other resources --------------------------------------------------------------------------


def test_discovery_lists_the_resources() -> None:
    response = ask(request_bytes(Code.GET, CORE))
    assert response.code == Code.CONTENT
    assert response.options == ((12, b"\x28"),)
    links = response.payload.decode().split(",")
    assert '</.well-known/eris/blocks>;rt="eris.blocks"' in links
    assert '</blocks>;rt="eris.blocks"' in links
    assert any(link.startswith("</kapla/stat>") for link in links)


def test_discovery_hides_what_may_not_be_asked() -> None:
    response = ask(request_bytes(Code.GET, CORE), rights=Rights(get=True))
    assert b"stat" not in response.payload


def test_discovery_filters() -> None:
    response = ask(request_bytes(Code.GET, [*CORE, (15, b"rt=eris.*")]))
    assert response.payload.count(b"<") == 2
    assert ask(request_bytes(Code.GET, [*CORE, (15, b"href=/blocks")])).payload.count(b"<") == 1


@pytest.mark.parametrize("query", [b"__class__=x", b"attr_pairs=*", b"nothing", b"=", b"context=x"])
def test_discovery_passes_over_other_filters(
    query: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    everything = ask(request_bytes(Code.GET, CORE))
    assert ask(request_bytes(Code.GET, [*CORE, (15, query)])) == everything
    assert not caplog.records


def test_stat() -> None:
    response = ask(request_bytes(Code.GET, STAT))
    assert response.code == Code.CONTENT
    assert response.options == ((12, b"\x32"),)
    assert json.loads(response.payload) == {"blocks": {}}
    assert ask(request_bytes(Code.GET, [*STAT, (17, b"\x32")])).code == Code.CONTENT
    assert ask(request_bytes(Code.GET, [*STAT, (17, b"\x2a")])).code == Code.NOT_ACCEPTABLE


def test_stat_is_only_for_those_who_may_ask() -> None:
    response = ask(request_bytes(Code.GET, STAT), rights=Rights(get=True, put=True))
    assert response.code == Code.FORBIDDEN


def test_peers_cannot_make_aiocoap_remember_numbers() -> None:
    # aiocoap keeps an enum member for every content format and option number that it has met.
    from aiocoap.numbers import ContentFormat
    from aiocoap.numbers.optionnumbers import OptionNumber

    get((17, b"\x77\x00"), GOOD)
    known = len(ContentFormat._value2member_map_), len(OptionNumber._value2member_map_)
    for number in range(0x7701, 0x7780):
        value = number.to_bytes(2, "big")
        get((12, value * 8), (17, value), (number * 2 & 0xFFFE, b"x"), GOOD)
    assert (len(ContentFormat._value2member_map_), len(OptionNumber._value2member_map_)) == known


def test_a_bug_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> Message:
        server = Server()

        async def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(server.lane, "_render", broken)
        return await server.ask(request_bytes(Code.GET, CORE))

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(run()) == Message(Code.INTERNAL_SERVER_ERROR, b"t", (), b"")
    assert "A request failed" in caplog.text

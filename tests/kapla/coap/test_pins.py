"""The resources of pins: what they take, what they say, and what becomes of a connection's pin."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eris import reference_of
from eris.errors import StoreFull, StoreUnavailable
from kapla.coap.caller import Caller
from kapla.coap.frame import Code, Message, Option
from kapla.errors import PinIncomplete, PinNotFound, RequestMalformed
from kapla.pins import PinSummary
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

ALICE = 1000
ROOT = reference_of(LARGE)
EVERY_PATH = ["pins", "pins/open", "pins/close", "pins/abandon", "pins/change", "pins/release"]


def request(
    what: str, asked: object = None, code: int = Code.POST, *options: Option, at_root: bool = False
) -> bytes:
    path: list[Option] = [] if at_root else [(11, b".well-known"), (11, b"eris")]
    path += [(11, part.encode()) for part in what.split("/")]
    payload = asked if isinstance(asked, bytes) else cbor2.dumps(asked) if asked else b""
    return request_bytes(code, [*path, *options], payload)


def server(uid: int | None = ALICE, rights: Rights = ALL_RIGHTS) -> Server:
    return Server(MemoryStorage([SMALL, LARGE]), rights, uid=uid)


def one_answer(data: bytes, *, is_open: bool = True, uid: int | None = ALICE) -> Message:
    async def run() -> Message:
        made = server(uid)
        if is_open:
            await made.ask(request("pins/open"))
        return await made.ask(data)

    return asyncio.run(run())


def told(message: Message) -> Any:
    assert message.options == ((12, b"\x3c"),)
    return cbor2.loads(message.payload)


# --- one pin from its beginning to its end ----------------------------------------------------


@pytest.mark.parametrize("at_root", [True, False])
def test_a_pin_is_opened_filled_closed_told_of_changed_and_released(at_root: bool) -> None:
    async def run() -> None:
        made = server()

        async def ask(what: str, asked: object = None, code: int = Code.POST) -> Message:
            return await made.ask(request(what, asked, code, at_root=at_root))

        opened = await ask("pins/open", {"bytes": 70})
        [pin] = made.storage.pinning.open_pins
        assert opened.code == Code.CREATED
        assert told(opened) == {"token": pin.token, "room": 70}
        wanted = await ask("pins/open", ROOT + reference_of(SMALL), Code.FETCH)
        assert (wanted.code, wanted.payload) == (Code.CONTENT, b"\0")
        assert made.storage.pinning.wanted == [ROOT, reference_of(SMALL)]
        closed = await ask("pins/close", {"name": "a", "root": ROOT, "lend": True})
        summary = {
            "name": "a",
            "owner": ALICE,
            "root": ROOT,
            "keep": True,
            "lend": True,
            "created": 1,
            "small": 2,
            "large": 3,
            "own_small": 4,
            "own_large": 5,
            "missing": 6,
        }
        assert closed.code == Code.CHANGED
        assert told(closed) == summary
        assert told(await ask("pins", code=Code.GET)) == {"pins": [summary]}
        summary["lend"] = False
        assert told(await ask("pins/change", {"root": ROOT, "lend": False})) == summary
        summary["keep"] = False
        assert told(await ask("pins/change", {"name": "a", "keep": False})) == summary
        assert told(await ask("pins/release", {"name": "a"})) == summary
        assert told(await ask("pins", code=Code.GET)) == {"pins": []}
        assert (await ask("pins/release", {"name": "a"})).code == Code.NOT_FOUND

    asyncio.run(run())


@pytest.mark.parametrize("abandoned", [True, False])
def test_what_is_put_and_found_in_between_comes_under_it(abandoned: bool) -> None:
    put = request_bytes(Code.PUT, BLOCKS_PATH, SMALL)
    slow_put = request_bytes(Code.PUT, [*BLOCKS_PATH, (12, b"\x2a")], SMALL)
    fetch = request_bytes(Code.FETCH, BLOCKS_PATH, ROOT)

    async def run() -> None:
        made = server()

        async def holds() -> list[object]:
            made.storage.holds.clear()
            for data in (put, slow_put, fetch):
                await made.ask(data)
            return [*made.storage.holds]

        assert await holds() == [None] * 3
        await made.ask(request("pins/open"))
        [pin] = made.storage.pinning.open_pins
        assert await holds() == [pin.hold] * 3
        if abandoned:
            assert (await made.ask(request("pins/abandon"))).code == Code.CHANGED
        else:
            await made.ask(request("pins/close", {"name": "a"}))
        assert made.storage.pinning.open_pins == []
        assert await holds() == [None] * 3

    asyncio.run(run())


# --- the connection and its pin ---------------------------------------------------------------


def test_a_pin_waits_when_its_connection_ends_and_is_gone_on_with() -> None:
    async def run() -> None:
        made = server()
        await made.ask(request("pins/open"))
        [pin] = made.storage.pinning.open_pins
        assert pin.is_attached
        made.transport.abort()
        await made.settle()
        assert not pin.is_attached
        peer, transport = made.connect(ALICE)
        peer.data_received(b"\x00\xe1" + request("pins/open", {"token": pin.token}))
        await made.settle()
        assert pin.is_attached
        peer.data_received(request_bytes(Code.PUT, BLOCKS_PATH, SMALL))
        await made.settle()
        assert made.storage.holds == [pin.hold]
        transport.abort()
        await made.settle()
        assert not pin.is_attached

    asyncio.run(run())


def test_a_pin_that_opens_after_its_connection_has_ended_waits_too() -> None:
    async def run() -> None:
        made = server()
        made.feed(request("pins/open"))
        assert made.storage.pinning.open_pins == []
        made.transport.abort()
        await made.settle()
        [pin] = made.storage.pinning.open_pins
        assert not pin.is_attached
        assert made.peer in made.closed

    asyncio.run(run())


def test_there_is_one_at_a_time_also_while_it_is_opened() -> None:
    async def run() -> None:
        made = server()
        made.feed(request("pins/open") * 2)
        await made.settle()
        codes = sorted(message.code for message in made.responses())
        assert codes == [Code.CREATED, Code.CONFLICT]
        assert len(made.storage.pinning.open_pins) == 1
        assert (await made.ask(request("pins/open"))).code == Code.CONFLICT

    asyncio.run(run())


def test_a_pin_that_could_not_be_opened_leaves_none_open() -> None:
    async def run() -> None:
        made = server()
        made.storage.pinning.failure = StoreFull("there is room for 5 bytes")
        refused = await made.ask(request("pins/open", {"bytes": 6}))
        assert (refused.code, refused.payload) == (
            Code.REQUEST_ENTITY_TOO_LARGE,
            b"there is room for 5 bytes",
        )
        made.storage.pinning.failure = None
        assert (await made.ask(request("pins/open"))).code == Code.CREATED

    asyncio.run(run())


def test_a_pin_that_could_not_be_closed_is_still_open() -> None:
    async def run() -> None:
        made = server()
        await made.ask(request("pins/open"))
        made.storage.pinning.failure = PinIncomplete(3)
        refused = await made.ask(request("pins/close", {"name": "a"}))
        assert (refused.code, refused.payload) == (Code.CONFLICT, b"3 blocks are missing")
        made.storage.pinning.failure = None
        assert (await made.ask(request("pins/close", {"name": "a"}))).code == Code.CHANGED

    asyncio.run(run())


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "asked", "why"),
    [
        ("open", b"\x80", "map"),
        ("open", {"bytes": "x"}, "bytes has to be a number"),
        ("open", {"bytes": 2**63}, "bytes has to be a number"),
        ("open", {"token": b"short"}, "16 bytes"),
        ("close", {}, "a name or a root"),
        ("close", {"lend": True}, "a name or a root"),
        ("close", {"root": b"short"}, "32 bytes"),
        ("close", {"name": b"x"}, "name has to be text"),
        ("close", {"name": "x", "keep": 1}, "keep has to be true or false"),
        ("change", {"lend": True}, "either the name or the root"),
        ("change", {"name": "x", "root": ROOT}, "either the name or the root"),
        ("release", {}, "either the name or the root"),
        ("release", {"root": bytes(31)}, "32 bytes"),
        ("release", {"name": "x", "owner": "root"}, "owner has to be a number"),
    ],
)
def test_requests_that_make_no_sense(what: str, asked: object, why: str) -> None:
    response = one_answer(request(f"pins/{what}", asked), is_open=what != "open")
    assert response.code == Code.BAD_REQUEST
    assert why in response.payload.decode()


@pytest.mark.parametrize("size", [0, 31, 33, 32 * 1025])
def test_holding_takes_whole_references(size: int) -> None:
    response = one_answer(request("pins/open", bytes(size) or b"", Code.FETCH))
    expected = Code.REQUEST_ENTITY_TOO_LARGE if size > 32768 else Code.BAD_REQUEST
    assert response.code == expected


@pytest.mark.parametrize(("what", "code"), [("close", Code.POST), ("open", Code.FETCH)])
def test_without_an_open_pin_there_is_nothing_to_do(what: str, code: int) -> None:
    asked = {"name": "x"} if code == Code.POST else ROOT
    response = one_answer(request(f"pins/{what}", asked, code), is_open=False)
    assert (response.code, response.payload) == (
        Code.NOT_FOUND,
        b"no pin is open on this connection",
    )


def test_a_request_is_no_longer_than_it_may_be() -> None:
    response = one_answer(request("pins/open", {"x": bytes(32768)}), is_open=False)
    assert response.code == Code.REQUEST_ENTITY_TOO_LARGE


def test_lists_are_told_in_one_format() -> None:
    assert one_answer(request("pins", None, Code.GET, (17, b"\x3c"))).code == Code.CONTENT
    assert one_answer(request("pins", None, Code.GET, (17, b"\x32"))).code == Code.NOT_ACCEPTABLE


@pytest.mark.parametrize("what", EVERY_PATH)
def test_other_methods_are_not_known(what: str) -> None:
    assert one_answer(request(what, None, Code.PUT)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("what", EVERY_PATH)
@pytest.mark.parametrize("code", [Code.GET, Code.POST, Code.FETCH])
def test_nobody_has_pins_whom_nobody_knows(what: str, code: int) -> None:
    response = one_answer(request(what, None, code), is_open=False, uid=None)
    assert response.code == Code.FORBIDDEN
    assert response.payload == b"there are no pins for you on this listener"


def test_pins_do_not_stand_in_discovery() -> None:
    core = request_bytes(Code.GET, [(11, b".well-known"), (11, b"core")])
    assert b"pins" not in one_answer(core).payload


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PinNotFound("there is none"), Code.NOT_FOUND),
        (RequestMalformed("the name of a pin has no control characters"), Code.BAD_REQUEST),
        (StoreFull("your pins hold too much"), Code.REQUEST_ENTITY_TOO_LARGE),
        (StoreUnavailable("the disk is full"), Code.SERVICE_UNAVAILABLE),
    ],
)
def test_what_the_store_says_is_told(error: Exception, code: int) -> None:
    async def run() -> Message:
        made = server()
        await made.ask(request("pins/open"))
        made.storage.pinning.failure = error  # type: ignore[assignment]
        return await made.ask(request("pins/close", {"name": "a"}))

    response = asyncio.run(run())
    assert (response.code, response.payload) == (code, str(error).encode())


# --- lists ------------------------------------------------------------------------------------


def with_pins(made: Server, names: list[str], owner: int = ALICE) -> None:
    for name in names:
        summary = PinSummary(name, owner, None, True, False, 2**40, *[2**50] * 5)
        made.storage.pinning.pins[owner, name] = summary


@pytest.mark.parametrize("length", [1, 255])
def test_a_list_comes_in_pages_that_fit_into_a_message(length: int) -> None:
    names = [f"{number:03}".ljust(length, "x") for number in range(250)]

    async def run() -> list[str]:
        made = server()
        with_pins(made, names)
        with_pins(made, ["another's"], owner=ALICE + 1)
        found: list[str] = []
        page: Mapping[str, Any] = {"next": ""}
        while "next" in page:
            after = page["next"].encode()
            # In two parts, as the longest have to come.
            options = [(15, b"after=" + part) for part in (after[:1], after[1:]) if part]
            answer = await made.ask(request("pins", None, Code.GET, *options))
            assert len(answer.payload) <= 32768
            page = told(answer)
            assert len(page["pins"]) <= 100
            found += [pin["name"] for pin in page["pins"]]
        return found

    assert asyncio.run(run()) == names


def test_who_administers_sees_everybodys() -> None:
    async def run(uid: int) -> list[int]:
        made = server(uid)
        with_pins(made, ["a"])
        with_pins(made, ["b"], owner=ALICE + 1)
        page = told(await made.ask(request("pins", None, Code.GET)))
        return [pin["owner"] for pin in page["pins"]]

    assert asyncio.run(run(ALICE)) == [ALICE]
    assert asyncio.run(run(os.geteuid())) == [ALICE, ALICE + 1]


# --- anything at all --------------------------------------------------------------------------

ASKED = st.dictionaries(
    st.sampled_from(["name", "root", "owner", "lend", "keep", "bytes", "token", "incomplete"]),
    st.sampled_from(["a", "", "\n", ROOT, b"", bytes(16), 0, ALICE, 2**63, -1, True, False, None]),
)


@settings(max_examples=examples(100))
@given(
    st.sampled_from(EVERY_PATH),
    st.sampled_from([Code.GET, Code.POST, Code.FETCH]),
    ASKED.map(cbor2.dumps) | st.binary(max_size=80),
    st.booleans(),
)
def test_no_request_makes_the_daemon_stumble(
    what: str, code: int, payload: bytes, is_open: bool
) -> None:
    response = one_answer(request(what, payload, code), is_open=is_open)
    assert response.code != Code.INTERNAL_SERVER_ERROR


def test_the_slow_lane_alone_says_the_same() -> None:
    caller = Caller(ALICE, may_pin=True)
    asked = request("pins", None, Code.GET)
    storage = MemoryStorage()
    assert asyncio.run(ask_slow_lane(asked, storage, ALL_RIGHTS, caller)) == one_answer(asked)

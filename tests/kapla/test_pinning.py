"""The client's side of pins, against a server in memory; the daemon has tests of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cbor2
import pytest

from eris import reference_of
from eris.base32 import format_base32
from eris.errors import StoreFull, StoreUnavailable
from eris.model import Reference
from kapla.client import RemoteStore, StoreList
from kapla.coap.frame import Code, Message
from kapla.errors import PinLost, PinNotFound, PinsUnsupported
from kapla.held import Held
from kapla.pinning import PinNotWhole, Pins
from kapla.pins import check_name
from tests.kapla.fake_server import FakeServer, Peer, Script, fake_server, keep_blocks, until_lost
from tests.kapla.pin_server import PinServer
from tests.kapla.test_client import REFERENCE, SMALL, run

BLOCKS = [bytes([number]) * 1024 for number in range(20)]
REFERENCES = [reference_of(block) for block in BLOCKS]


@asynccontextmanager
async def pinning(pins: PinServer) -> AsyncIterator[tuple[FakeServer, RemoteStore]]:
    async with fake_server(pins) as server, RemoteStore(server.url) as store:
        yield server, store


def test_what_is_put_and_wanted_under_a_pin_is_in_it() -> None:
    async def main() -> None:
        pins = PinServer()
        pins.blocks[REFERENCES[0]] = BLOCKS[0]
        async with pinning(pins) as (_, store):
            async with await Pins(store).open(4096) as pin:
                await store.put(REFERENCE, SMALL)
                assert await pin.want(REFERENCES[:1]) == [True]
                summary = await pin.close(root=REFERENCE, lend=True)
                assert not pin.is_open
            assert summary.root == REFERENCE
            assert (summary.lend, summary.keep, summary.block_bytes) == (True, True, 2048)
            assert pins.pins[format_base32(REFERENCE)].there == {REFERENCE, REFERENCES[0]}
            assert not pins.open

    run(main)


def test_as_many_references_as_there_are_are_asked_for_in_parts_and_answered_in_order() -> None:
    async def main() -> None:
        pins = PinServer()
        many = [Reference(number.to_bytes(32, "big")) for number in range(20_000)]
        pins.blocks = dict.fromkeys(many[::3], b"")
        async with pinning(pins) as (_, store), await Pins(store).open() as pin:
            assert await pin.want(many) == [number % 3 == 0 for number in range(20_000)]
            assert len(pins.open[b"\0" * 15 + b"\1"].lacking) == 20_000 - len(pins.blocks)

    run(main)


def test_what_is_not_closed_is_abandoned() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (_, store):
            with pytest.raises(ZeroDivisionError):
                async with await Pins(store).open():
                    raise ZeroDivisionError
            assert not pins.open
            assert not pins.pins
            async with await Pins(store).open() as second:
                assert second.is_open

    run(main)


def test_what_is_abandoned_may_be_lent_and_a_pin_that_is_gone_is_told() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (_, store):
            async with await Pins(store).open() as pin:
                await store.put(REFERENCE, SMALL)
                assert await pin.lend() == 1
                assert not pin.is_open
            assert not pins.open
            assert not pins.pins
            async with await Pins(store).open() as pin:
                pins.by_peer.clear()
                with pytest.raises(PinLost):
                    await pin.lend()

    run(main)


@pytest.mark.parametrize(("answer", "lent"), [(b"", 0), (b"\xa0", None), (b"\xff", None)])
def test_a_store_that_says_nothing_of_lending_lends_nothing(
    answer: bytes, lent: int | None
) -> None:
    pins = PinServer()

    def script(peer: Peer, request: Message) -> None:
        if request.values(11)[-1] == b"abandon":
            peer.send(Code.CHANGED, request.token, payload=answer)
        else:
            pins(peer, request)

    async def main() -> None:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            pin = await Pins(store).open()
            if lent is None:
                with pytest.raises(StoreUnavailable, match="makes no sense"):
                    await pin.lend()
            else:
                assert await pin.lend() == lent

    run(main)


def test_an_interruption_abandons() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (server, store):

            async def work() -> None:
                async with await Pins(store).open():
                    await asyncio.Event().wait()

            task = asyncio.ensure_future(work())
            await server.until(lambda: bool(pins.open))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert not pins.open

    run(main)


def test_what_has_no_room_fails_before_anything_is_sent() -> None:
    async def main() -> None:
        pins = PinServer(room=1000)
        async with pinning(pins) as (_, store):
            with pytest.raises(StoreFull, match="there is no room for that"):
                await Pins(store).open(1001)
            assert (await Pins(store).open(1000)).room == 1000

    run(main)


def test_the_next_connection_goes_on_with_the_pin_before_anything_else() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (server, store):
            async with await Pins(store).open() as pin:
                await store.put(REFERENCES[0], BLOCKS[0])
                server.peers[0].transport.abort()
                await until_lost(store)
                before = len(pins.asked)
                await asyncio.gather(
                    *(store.put(one, block) for one, block in zip(REFERENCES, BLOCKS, strict=True))
                )
                assert pins.asked[before] == (Code.POST, ("pins", "open"))
                await pin.close(root=REFERENCES[0])
            assert pins.pins[format_base32(REFERENCES[0])].there == set(REFERENCES)

    run(main)


def test_a_question_that_is_under_way_when_the_connection_is_lost_is_asked_again() -> None:
    async def main() -> None:
        pins = PinServer()

        def lose_first(peer: Peer, request: Message) -> None:
            if request.code == Code.FETCH and peer is server.peers[0]:
                peer.transport.abort()
            else:
                pins(peer, request)

        async with (
            fake_server(lose_first) as server,
            RemoteStore(server.url) as store,
            await Pins(store).open() as pin,
        ):
            assert await pin.want([REFERENCE]) == [False]
            assert len(server.peers) == 2

    run(main)


def test_a_pin_that_the_store_gave_up_is_begun_anew_with_all_that_it_held() -> None:
    async def main() -> None:
        pins = PinServer()
        pins.blocks = dict(zip(REFERENCES[:4], BLOCKS, strict=False))
        async with pinning(pins) as (server, store):
            async with await Pins(store).open() as pin:
                await store.put(REFERENCE, SMALL)
                assert await store.find(REFERENCES[2:6]) == [True, True, False, False]
                assert await pin.want([REFERENCES[0], REFERENCES[9]]) == [True, False]
                pins.open.clear()
                del pins.blocks[REFERENCES[3]]
                server.peers[0].transport.abort()
                await until_lost(store)
                await store.put(REFERENCES[5], BLOCKS[5])
                assert pin.was_begun_anew
                (held,) = pins.open.values()
                assert held.there == {REFERENCE, REFERENCES[0], REFERENCES[2], REFERENCES[5]}
                # What went is not forgotten.
                assert held.lacking - held.there == {REFERENCES[3], REFERENCES[9]}
                with pytest.raises(PinNotWhole):
                    await pin.close(root=REFERENCE)
            assert not pins.open
            assert store.held is None

    run(main)


def refuses_to_begin_anew(pins: PinServer) -> Script:
    def script(peer: Peer, request: Message) -> None:
        is_opened = request.code == Code.POST and request.values(11)[-1] == b"open"
        if is_opened and pins.asked.count((Code.POST, ("pins", "open"))):
            peer.send(Code.NOT_FOUND, request.token)
        else:
            pins(peer, request)

    return script


@pytest.mark.parametrize("why", ["too many", "no pins"])
def test_a_pin_that_cannot_be_begun_anew_fails_whatever_relied_on_it(
    why: str,
) -> None:
    async def main() -> None:
        pins = PinServer()
        script = refuses_to_begin_anew(pins) if why == "no pins" else pins
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            async with await Pins(store).open() as pin:
                if why == "too many":
                    store.held = pin._held = Held(most=32)
                for block in BLOCKS[:2]:
                    await store.put(reference_of(block), block)
                pins.open.clear()
                server.peers[0].transport.abort()
                await until_lost(store)
                with pytest.raises(PinLost):
                    await store.put(REFERENCE, SMALL)
                with pytest.raises(PinLost):
                    await pin.want([REFERENCE])
            assert REFERENCE not in pins.blocks
            # And the store can be used again.
            await store.put(REFERENCE, SMALL)

    run(main)


def test_a_pin_that_is_abandoned_is_not_begun_anew_for_it() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (server, store):
            async with await Pins(store).open():
                await store.put(REFERENCE, SMALL)
                pins.open.clear()
                server.peers[0].transport.abort()
                await until_lost(store)
            assert not pins.open

    run(main)


def test_what_is_missing_is_told_and_may_be_remembered() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (_, store), await Pins(store).open() as pin:
            await pin.want(REFERENCES[:2])
            with pytest.raises(PinNotWhole, match="2 blocks are missing"):
                await pin.close(root=REFERENCE)
            assert pin.is_open
            summary = await pin.close(root=REFERENCE, name="all", incomplete=True)
            assert (summary.name, summary.missing) == ("all", 2)

    run(main)


async def make_pins(store: RemoteStore, *names: str) -> None:
    for name in names:
        async with await Pins(store).open() as pin:
            await pin.close(root=REFERENCE, name=name)


def test_pins_are_listed_page_by_page() -> None:
    async def main() -> None:
        async with pinning(PinServer(page=2)) as (_, store):
            made = [
                "a",
                "b",
                "c",
                "d é",
                "e",
                "é" * 127,
                "\U0001f600" * 63,
                "\U0001f600" * 63 + "a",
            ]
            await make_pins(store, *made)
            assert [pin.name async for pin in Pins(store).list()] == made

    run(main)


def test_a_list_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kapla.pinning._MAX_PAGES", 20)

    def endless(peer: Peer, request: Message) -> None:
        peer.send(Code.CONTENT, request.token, payload=cbor2.dumps({"pins": [], "next": "a"}))

    async def main() -> None:
        async with fake_server(endless) as server, RemoteStore(server.url) as store:
            with pytest.raises(StoreUnavailable, match="no end"):
                _ = [pin async for pin in Pins(store).list()]

    run(main)


def test_a_pin_is_changed_and_released_by_name_and_by_root() -> None:
    async def main() -> None:
        pins = PinServer()
        async with pinning(pins) as (_, store):
            await make_pins(store, "a")
            assert (await Pins(store).change("a", lend=True)).lend
            assert not (await Pins(store).change(REFERENCE, lend=False)).lend
            assert (await Pins(store).release(REFERENCE)).name == "a"
            for which in ("a", REFERENCE):
                with pytest.raises(PinNotFound):
                    await Pins(store).release(which)

    run(main)


@pytest.mark.parametrize(
    "code", [Code.BAD_OPTION, Code.FORBIDDEN, Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, 0xA1]
)
def test_a_store_without_pins_says_so_to_everything(code: int) -> None:
    def script(peer: Peer, request: Message) -> None:
        peer.send(code, request.token)

    async def main() -> None:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            pins = Pins(store)
            for asked in (pins.open(), pins.change("a", lend=True), pins.release("a")):
                with pytest.raises(PinsUnsupported):
                    await asked
            with pytest.raises(PinsUnsupported):
                _ = [pin async for pin in pins.list()]

    run(main)


def test_a_url_without_put_asks_for_no_pin() -> None:
    async def main() -> None:
        async with fake_server(PinServer(), flags="?get") as server:
            async with RemoteStore(server.url) as store:
                with pytest.raises(PinsUnsupported):
                    await Pins(store).open()
            assert not server.requests

    run(main)


GOOD = {
    "name": "a",
    "owner": 1,
    "root": None,
    "keep": True,
    "lend": False,
    "created": 1,
    "small": 0,
    "large": 0,
    "own_small": 0,
    "own_large": 0,
    "missing": 0,
}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no cbor",
        b"\x81" * 30_000,
        cbor2.dumps([]),
        cbor2.dumps({}),
        cbor2.dumps({"pins": 3}),
        cbor2.dumps({"pins": [GOOD], "next": 3}),
        *(
            cbor2.dumps({"pins": [{**GOOD, **wrong}]})
            for wrong in (
                {"name": b"a"},
                {"root": "a"},
                {"keep": 1},
                {"lend": None},
                {"missing": -1},
                {"small": True},
                {"large": 1.5},
                {"created": 2**64},
            )
        ),
    ],
)
def test_an_answer_that_makes_no_sense(answer: bytes) -> None:
    def script(peer: Peer, request: Message) -> None:
        peer.send(Code.CONTENT, request.token, payload=answer)

    async def main() -> None:
        async with fake_server(script) as server, RemoteStore(server.url) as store:
            with pytest.raises(StoreUnavailable, match="makes no sense"):
                _ = [pin async for pin in Pins(store).list()]
            with pytest.raises(PinsUnsupported):
                await Pins(store).open()

    run(main)


def test_of_several_stores_the_one_that_takes_the_blocks_has_the_pin() -> None:
    def refuses(peer: Peer, request: Message) -> None:
        peer.send(Code.FORBIDDEN, request.token)

    async def main() -> None:
        pins = PinServer()
        async with (
            fake_server(refuses) as first,
            fake_server(pins) as second,
            fake_server(keep_blocks()) as third,
            StoreList([RemoteStore(one.url) for one in (first, second, third)]) as store,
        ):
            async with await Pins(await store.taker()).open() as pin:
                await store.put(REFERENCE, SMALL)
                await pin.close(root=REFERENCE)
            assert pins.pins[format_base32(REFERENCE)].there == {REFERENCE}

    run(main)


@pytest.mark.parametrize("name", ["", "a\n", "\x7f", "\x9b", "é" * 128, "\ud800"])
def test_names_that_no_pin_has(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a pin"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "my notes", "é" * 127, "x" * 255])
def test_names_that_a_pin_may_have(name: str) -> None:
    check_name(name)

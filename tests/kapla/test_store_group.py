"""A group of stores with the same content: whichever answers, whatever becomes of the others."""

from __future__ import annotations

import asyncio

import pytest

from eris.crypto import reference_of
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize
from kapla.client import RemoteStore, open_store
from kapla.coap.frame import Code, Message
from kapla.config import load_config
from kapla.errors import ConfigError, InvalidUrl
from kapla.given_urls import parse_store_urls, read_store_url
from kapla.pinning import Pins
from kapla.store_group import GroupStore
from kapla.urls import format_store_url, parse_store_url
from tests.kapla.fake_server import FakeServer, Peer, Script, fake_server, keep_blocks
from tests.kapla.pin_server import PinServer
from tests.kapla.test_client import REFERENCE, SMALL, error_in, get, run, silent

BLOCKS = [bytes([number]) * 1024 for number in range(40)]


def group(*servers: FakeServer, reconnect_s: float = 0.0) -> GroupStore:
    urls = "|".join(format_store_url(server.url) for server in servers)
    store = open_store(urls, reconnect_s=reconnect_s)
    assert isinstance(store, GroupStore)
    return store


def unable(peer: Peer, request: Message) -> None:
    """A front end whose database is away."""
    peer.send(Code.SERVICE_UNAVAILABLE, request.token, payload=b"the database is away")


def breaks(peer: Peer, request: Message) -> None:
    """One that is killed as it is asked."""
    peer.transport.abort()


# --- what a group is --------------------------------------------------------------------------


def test_how_a_group_is_written() -> None:
    first, second = parse_store_urls("coap+unix:///a|coap+tcp://h:7?get coap+tcp://i")
    assert [str(url) for url in first.members] == ["Unix socket /a", "TCP h:7"]
    assert str(first) == "Unix socket /a or TCP h:7"
    # What not all allow none does.
    assert (first.allows("get"), first.allows("put")) == (True, False)
    assert second.members == (second,)
    assert format_store_url(first) == "coap+unix:///a|coap+tcp://h:7"
    again = read_store_url(format_store_url(first))
    assert [one.endpoint for one in again.members] == [one.endpoint for one in first.members]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("coap+tcp://a|", "store 2 of the group: "),
        ("|coap+tcp://a", "store 1 of the group: "),
        ("coap+tcp://a|http://b", "store 2 of the group: its members are daemons"),
        ("file:///a|coap+tcp://a", "store 1 of the group: its members are daemons"),
        ("coap+tcp://a/x|coap+tcp://b/y", "the stores of a group have the same path"),
        ("coap+tcp://a|coap+tcp://a:5683", "a store is named twice in its group"),
        ("|".join(f"coap+tcp://h{n}" for n in range(33)), "a group of 33 stores"),
    ],
)
def test_what_is_no_group(text: str, reason: str) -> None:
    with pytest.raises(InvalidUrl, match=reason):
        read_store_url(text)


def test_one_store_is_no_group() -> None:
    with pytest.raises(InvalidUrl, match="one of CoAP"):
        RemoteStore("coap+tcp://a|coap+tcp://b")
    for one in (parse_store_url, lambda text: load_config(listen=(text,), environment={})):
        with pytest.raises(ConfigError, match="stands between stores of a group"):
            one("coap+unix:///a|coap+unix:///b")


# --- getting ----------------------------------------------------------------------------------


def test_blocks_are_got_from_all_members() -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks(BLOCKS)) as one,
            fake_server(keep_blocks(BLOCKS)) as two,
            group(one, two) as store,
        ):
            references = map(reference_of, BLOCKS)
            got = await asyncio.gather(
                *(store.get(reference, BlockSize.SMALL) for reference in references)
            )
            assert got == BLOCKS
            assert [len(one.requests), len(two.requests)] == [20, 20]
            # What is not in one is in none.
            assert isinstance(await error_in(get(store)), BlockNotFound)
            assert len(one.requests + two.requests) == 41

    run(main)


@pytest.mark.parametrize("failing", [unable, breaks])
def test_blocks_are_got_from_the_next_member_where_one_fails(failing: Script) -> None:
    async def main() -> None:
        async with (
            fake_server(failing) as bad,
            fake_server(keep_blocks([SMALL])) as good,
            group(bad, good) as store,
        ):
            assert [await get(store) for _ in range(10)] == 10 * [SMALL]
            # It is left alone then.
            assert len(good.requests) == 10
            assert len(bad.requests) <= 1

    run(main)


def test_a_member_that_is_not_there() -> None:
    async def main() -> None:
        async with fake_server(silent) as gone:
            gone.close()
        async with fake_server(keep_blocks([SMALL])) as there, group(gone, there) as store:
            assert [await get(store) for _ in range(4)] == 4 * [SMALL]
            await store.put(REFERENCE, SMALL)
            assert len(there.requests) == 5

    run(main)


@pytest.mark.parametrize("failing", [unable, breaks])
def test_where_all_members_fail_that_is_told(failing: Script) -> None:
    async def main() -> None:
        async with fake_server(failing) as one, fake_server(failing) as two:
            async with group(one, two) as store:
                assert isinstance(await error_in(get(store)), StoreUnavailable)
                assert isinstance(await error_in(store.put(REFERENCE, SMALL)), StoreUnavailable)
                assert isinstance(await error_in(store.find([REFERENCE])), StoreUnavailable)
            assert len(one.requests) == len(two.requests) == 3

    run(main)


def test_members_that_worked_are_waited_for() -> None:
    answer = [False]

    def now_and_then(peer: Peer, request: Message) -> None:
        behave = keep_blocks([SMALL])
        (behave if answer[0] else unable)(peer, request)

    async def main() -> None:
        async with (
            fake_server(now_and_then) as one,
            fake_server(now_and_then) as two,
            group(one, two, reconnect_s=30.0) as store,
        ):
            answer[0] = True
            assert await get(store) == SMALL
            answer[0] = False
            asked = get(store), store.put(REFERENCE, SMALL)
            waiting = [asyncio.ensure_future(each) for each in asked]
            await asyncio.gather(one.until_requests(5), two.until_requests(5))
            answer[0] = True
            assert await asyncio.gather(*waiting) == [SMALL, None]

    run(main)


# --- putting and pins -------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [unable, breaks])
def test_blocks_are_put_at_the_next_member_where_one_fails(failing: Script) -> None:
    async def main() -> None:
        # Whichever it begins with.
        for _ in range(6):
            async with (
                fake_server(failing) as bad,
                fake_server(keep_blocks()) as good,
                group(bad, good) as store,
            ):
                blocks = [(reference_of(block), block) for block in BLOCKS]
                await asyncio.gather(*(store.put_all([block]) for block in blocks))
                put = {request.payload for request in good.requests}
                assert put == set(BLOCKS)

    run(main)


@pytest.mark.parametrize("how", ["unable", "lost"])
def test_an_open_pin_is_gone_on_with_at_another_member(how: str) -> None:
    """Both have one database, which knows the pin by its token."""
    shared = PinServer()
    ill: set[FakeServer] = set()
    servers: list[FakeServer] = []

    def front_end(peer: Peer, request: Message) -> None:
        server = next(one for one in servers if peer in one.peers)
        if server not in ill:
            shared(peer, request)
        elif how == "unable":
            unable(peer, request)
        else:
            breaks(peer, request)

    async def main() -> None:
        async with fake_server(front_end) as one, fake_server(front_end) as two:
            servers.extend((one, two))
            async with group(one, two, reconnect_s=30.0) as store, await Pins(store).open() as pin:
                await store.put_all([(reference_of(block), block) for block in BLOCKS[:20]])
                (at,) = [server for server in servers if server.requests]
                ill.add(at)
                await asyncio.gather(
                    *(store.put(reference_of(block), block) for block in BLOCKS[20:])
                )
                assert await pin.want([reference_of(BLOCKS[0])]) == [True]
                summary = await pin.close(root=reference_of(BLOCKS[0]))
                assert not pin.was_begun_anew
            assert summary.small == len(BLOCKS)
            assert sum(path == ("pins", "open") for code, path in shared.asked if code == 2) == 2

    run(main)


def test_a_pin_outlives_that_all_members_are_unable_for_a_while() -> None:
    """As when their database is restarted: nor can they say then whether there is the pin."""
    shared = PinServer()
    is_away = [False]

    def front_end(peer: Peer, request: Message) -> None:
        (unable if is_away[0] else shared)(peer, request)

    async def main() -> None:
        async with (
            fake_server(front_end) as one,
            fake_server(front_end) as two,
            group(one, two, reconnect_s=30.0) as store,
            await Pins(store).open() as pin,
        ):
            is_away[0] = True
            before = len(one.requests), len(two.requests)
            putting = asyncio.ensure_future(store.put(REFERENCE, SMALL))
            await asyncio.gather(
                *(
                    each.until_requests(count + 3)
                    for each, count in zip((one, two), before, strict=True)
                )
            )
            is_away[0] = False
            await putting
            summary = await pin.close(root=REFERENCE)
            assert (summary.small, pin.was_begun_anew) == (1, False)

    run(main)


def test_a_pin_is_opened_at_the_next_member_where_one_fails() -> None:
    async def main() -> None:
        for _ in range(6):
            shared = PinServer()
            async with fake_server(breaks) as bad, fake_server(shared) as good:
                async with group(bad, good) as store, await Pins(store).open() as pin:
                    await pin.close(root=REFERENCE)
                assert len(shared.pins) == 1

    run(main)


# --- the end ----------------------------------------------------------------------------------


def test_what_waits_when_it_is_closed_fails() -> None:
    async def main() -> None:
        async with fake_server(silent) as one, fake_server(silent) as two:
            store = group(one, two, reconnect_s=30.0)
            asked = get(store), store.find([REFERENCE])
            waiting = [asyncio.ensure_future(each) for each in asked]
            # Both begin with the same member.
            asking = [asyncio.ensure_future(each.until_requests(2)) for each in (one, two)]
            _, left = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for each in left:
                each.cancel()
            await store.close()
            for waits in waiting:
                assert isinstance(await error_in(waits), StoreUnavailable)
            assert not store.connected

    run(main)


def test_in_a_list_nobody_waits_for_a_group_to_get_blocks() -> None:
    scripts: list[Script] = [keep_blocks([SMALL])]

    def front_end(peer: Peer, request: Message) -> None:
        scripts[-1](peer, request)

    async def main() -> None:
        async with (
            fake_server(front_end) as one,
            fake_server(front_end) as two,
            fake_server(keep_blocks([SMALL])) as other,
        ):
            both = "|".join(format_store_url(server.url) for server in (one, two))
            # Longer than this test may take.
            async with open_store([*parse_store_urls(both), other.url], reconnect_s=600.0) as store:
                assert await get(store) == SMALL
                scripts.append(unable)
                assert [await get(store) for _ in range(3)] == 3 * [SMALL]

    run(main)


def test_in_a_list_a_group_is_one_of_the_stores() -> None:
    async def main() -> None:
        async with (
            fake_server(keep_blocks()) as one,
            fake_server(keep_blocks()) as two,
            fake_server(keep_blocks([SMALL])) as other,
        ):
            both = "|".join(format_store_url(server.url) for server in (one, two))
            async with open_store(f"{both} {format_store_url(other.url)}") as store:
                assert await get(store) == SMALL
                await store.put(REFERENCE, SMALL)
                assert [type(each) for each in store.stores] == [GroupStore, RemoteStore]
            asked = [*one.requests, *two.requests]
            puts = [each for each in asked if each.code == Code.PUT and each.payload]
            assert len(puts) == 1

    run(main)

"""Who is at the other end of a connection, what is allowed there, and who is asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from kapla.coap.answering import Answering
from kapla.coap.fellows import Welcome
from kapla.coap.link import Link
from kapla.coap.peers import Peers
from kapla.coap.site import AiocoapLane
from kapla.coap.turns import Turns
from kapla.guests import Hall
from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.budget import Budgets
from kapla.peers.line import Line
from kapla.peers.table import PeerTable
from kapla.storage.access import BlockAccess, Rights, Statistics
from kapla.storage.batching import BatchedStorage
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import FakeTransport, MemoryStorage

DESKTOP, SERVER, STRANGER = (PeerKey(bytes([n]) * 32) for n in (1, 2, 3))
LENDING = Rights(get=False, lend=True)


async def _report() -> dict[str, object]:
    return {}


def serve(rights: Rights) -> tuple[BlockAccess, AiocoapLane]:
    access = BlockAccess(cast(BatchedStorage, MemoryStorage()), rights, Statistics())
    return access, AiocoapLane(access, _report)


class House:
    """A listener that lends, and whom it knows: a desktop, and a server that may have all."""

    def __init__(self, rights: Rights = LENDING, most: int = 99) -> None:
        self.table: PeerTable[Line] = PeerTable(
            [
                PeerSettings(key=DESKTOP),
                PeerSettings(key=SERVER, rights=frozenset({"get", "put", "stat", "relay"})),
            ]
        )
        self.keys: dict[asyncio.BaseTransport, PeerKey | None] = {}
        hall = Hall(self.table, Budgets(None), serve, self.keys.get)
        self.door = hall.door(rights)
        self.peers = Peers(
            self.door.access, self.door.lane, Turns().line(), most, lambda: None, guests=self.door
        )

    def connect(self, key: PeerKey | None = None, uid: int | None = None) -> Link:
        link = self.peers.connect()
        transport = FakeTransport(link, uid)
        self.keys[transport] = key
        link.connection_made(transport)
        return link

    def welcome(self, link: Link) -> Welcome:
        found = self.door.welcome(link)
        assert found is not None
        return found


def run(test: Callable[[House], Awaitable[None]], rights: Rights = LENDING) -> None:
    async def main() -> None:
        await test(House(rights))

    run_without_waiting(main)


@pytest.mark.parametrize("key", [None, STRANGER])
def test_strangers_have_what_the_listener_gives_share_one_allowance_and_are_not_asked(
    key: PeerKey | None,
) -> None:
    async def test(house: House) -> None:
        one, other = house.connect(key), house.connect()
        assert one.asking is other.asking is None
        assert house.welcome(one) == house.welcome(other)
        assert house.welcome(one).access.rights == LENDING
        assert not house.door.may_ask_others(one)
        assert house.table.askable() == []

    run(test)


def test_a_known_key_is_asked_as_long_as_its_connection_lasts() -> None:
    async def test(house: House) -> None:
        link = house.connect(DESKTOP)
        assert link.usable
        assert [peer.key for peer in house.table.askable()] == [DESKTOP]
        assert house.table.peers[0].link is link
        link.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert house.table.askable() == []

    run(test)


def test_a_peer_has_its_rights_and_those_of_strangers() -> None:
    async def test(house: House) -> None:
        desktop, server = house.connect(DESKTOP), house.connect(SERVER)
        assert house.welcome(desktop).access.rights == LENDING
        assert house.welcome(server).access.rights == Rights(True, True, True, True, False)
        open_house = House(Rights(get=True, put=True, admin=True))
        known = open_house.welcome(open_house.connect(DESKTOP)).access.rights
        assert known == Rights(get=True, lend=True, put=True, admin=True)

    run(test)


def test_each_peer_has_one_allowance_for_all_its_connections() -> None:
    async def test(house: House) -> None:
        one, again, other = (house.connect(key) for key in (DESKTOP, DESKTOP, SERVER))
        assert house.welcome(one).allowance is house.welcome(again).allowance
        assert house.welcome(one).allowance is not house.welcome(other).allowance
        assert house.table.peers[0].link is again

    run(test)


def test_others_are_asked_for_programs_of_this_machine_and_peers_with_the_right() -> None:
    async def test(house: House) -> None:
        program = house.connect(uid=1000)
        assert house.door.welcome(program) is None
        assert program.asking is None
        assert house.door.may_ask_others(program)
        assert house.door.may_ask_others(house.connect(SERVER))
        assert not house.door.may_ask_others(house.connect(DESKTOP))
        assert not house.door.may_ask_others(house.connect(None))

    run(test, Rights(get=True))


def test_programs_to_which_only_what_is_lent_is_given_cause_nobody_to_be_asked() -> None:
    async def test(house: House) -> None:
        assert not house.door.may_ask_others(house.connect(uid=1000))
        assert house.door.may_ask_others(house.connect(SERVER))

    run(test, LENDING)


def test_a_connection_that_is_gone_already_is_nobody() -> None:
    async def test(house: House) -> None:
        link = Link(lambda link: Answering(link, *serve(LENDING), Turns().line(), house.peers))
        assert house.door.welcome(link) is None
        assert not house.door.may_ask_others(link)

    run(test)


def test_strangers_do_not_keep_a_peer_out_and_it_takes_some_places_only() -> None:
    async def test(_: House) -> None:
        house = House(most=2)
        strangers = [house.connect() for _ in range(3)]
        assert [link.connection.closing is None for link in strangers] == [True, True, False]
        links = [house.connect(DESKTOP) for _ in range(6)]
        assert [link.connection.closing is None for link in links] == [True] * 4 + [False] * 2

    run(test)


def test_a_connection_that_is_refused_is_not_the_one_that_is_asked() -> None:
    async def test(_: House) -> None:
        house = House(most=1)
        links = [house.connect(DESKTOP) for _ in range(5)]
        (peer,) = [peer for peer in house.table if peer.key == DESKTOP]
        assert links[-1].connection.closing is not None
        assert peer.link is links[-2]
        assert [link for link, _ in peer.links] == links[:-1]

    run(test)


def test_that_a_peer_has_vanished_is_noticed_within_minutes() -> None:
    async def main() -> None:
        house = House()
        house.door = Hall(house.table, Budgets(None), serve, lambda _: DESKTOP).door(LENDING)
        house.peers = Peers(
            house.door.access, house.door.lane, Turns().line(), 9, lambda: None, guests=house.door
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(house.peers.connect, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        async with asyncio.timeout(20):
            while not house.table.askable():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        link = house.table.peers[0].link
        assert isinstance(link, Link) and link.transport is not None
        connection = link.transport.get_extra_info("socket")
        values = [
            connection.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert values == [60, 60, 3]
        writer.close()
        await link.closed
        server.close()

    asyncio.run(main())

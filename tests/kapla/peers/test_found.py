"""Peers that come and go with the local network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from eris.errors import StoreUnavailable
from kapla.identity.key import PeerKey
from kapla.lan.judging import Place
from kapla.peer_config import PeerSettings
from kapla.peers.dialling import Dialler
from kapla.peers.found import MOST_FOUND, FoundPeers
from kapla.peers.table import Direction, Peer, PeerTable
from kapla.urls import TlsEndpoint, parse_store_url
from tests.clocks import run_without_waiting

NAMED = PeerKey(bytes(32))
HERE, THERE = Place("10.0.0.2", 5684, "eth0"), Place("10.0.0.3", 5684, "eth0")


def key(number: int) -> PeerKey:
    return PeerKey(number.to_bytes(2, "big") * 16)


class Link:
    """A connection; it ends when it is given up."""

    def __init__(self) -> None:
        self.usable = True
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def heard_at(self) -> float:
        return asyncio.get_running_loop().time()

    def ping(self) -> None:
        pass

    def give_up(self, reason: str) -> None:
        self.usable = False
        if not self.ended.done():
            self.ended.set_result(reason)

    async def wait_closed(self) -> str:
        await asyncio.wait([self.ended])
        return self.ended.result()


class Scene:
    """Places where somebody answers, and what was dialled."""

    def __init__(self, *peers: PeerSettings) -> None:
        self.answering: set[Place] = {HERE}
        self.silent: set[Place] = set()
        self.dialled: list[Place] = []
        self.links: list[Link] = []
        self.forgotten: list[Peer[Link]] = []
        self.table: PeerTable[Link] = PeerTable(peers)
        self.by_url: Dialler[Link] | None = None
        self.found: FoundPeers[Link] = FoundPeers(
            self.table, self._dial, lambda peer: self.by_url, self.forgotten.append
        )
        self.table.on_change = self.found.changed

    async def _dial(self, peer: Peer[Link], place: Place) -> Link:
        self.dialled.append(place)
        if place in self.silent:
            await asyncio.sleep(20)
        if place not in self.answering:
            raise StoreUnavailable("nobody is there")
        link = Link()
        self.links.append(link)
        return link

    def asked(self) -> list[PeerKey | None]:
        return [peer.key for peer in self.table.askable()]


def played(scene: Callable[[Scene], Coroutine[None, None, None]], *peers: PeerSettings) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        made = Scene(*peers)
        try:
            await scene(made)
        finally:
            await made.found.stop()
        # What was cancelled ends in the next turn.
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == before

    run_without_waiting(main)


def test_who_is_found_is_asked_without_rights_and_forgotten_when_it_goes() -> None:
    async def scene(scene: Scene) -> None:
        scene.found.set_places({key(1): [HERE]})
        await scene.found.all_tried()
        [peer] = scene.table.peers
        assert scene.asked() == [key(1)]
        assert peer.is_found
        assert not any(peer.may(right) for right in ("get", "lend", "put", "stat", "relay"))
        assert scene.found.state_of(key(1)) == "connected"
        # When it connects to us it is a stranger.
        assert scene.table.with_key(key(1)) is None
        scene.found.set_places({})
        assert not scene.links[0].usable
        assert scene.table.peers == []
        assert scene.forgotten == [peer]
        assert scene.found.state_of(key(1)) is None

    played(scene)


def test_one_that_comes_again_is_another_peer() -> None:
    async def scene(scene: Scene) -> None:
        numbers = []
        for _ in range(3):
            scene.found.set_places({key(1): [HERE]})
            await scene.found.all_tried()
            numbers.append(scene.table.peers[0].number)
            scene.found.set_places({})
        assert len(set(numbers)) == 3

    played(scene)


def test_a_connection_to_where_it_is_found_no_more_is_ended() -> None:
    async def scene(scene: Scene) -> None:
        scene.found.set_places({key(1): [HERE]})
        await scene.found.all_tried()
        scene.found.set_places({key(1): [HERE, THERE]})
        assert scene.links[0].usable
        scene.answering = {THERE}
        scene.found.set_places({key(1): [THERE]})
        assert not scene.links[0].usable
        assert scene.asked() == []
        await scene.found.all_tried()
        assert scene.asked() == [key(1)]

    played(scene)


def test_whoever_announces_the_key_of_another_does_not_keep_him_from_being_found() -> None:
    async def scene(scene: Scene) -> None:
        scene.silent = {Place("10.0.0.9", port) for port in range(1, 8)}
        scene.found.set_places({key(1): [*scene.silent, HERE]})
        await scene.found.came.wait()
        assert asyncio.get_running_loop().time() < 3
        assert scene.asked() == [key(1)]

    played(scene)


def test_before_anybody_is_dialled_it_is_looked_whether_he_may_be() -> None:
    async def scene(scene: Scene) -> None:
        scene.found.look = lambda: scene.found.set_places({})
        scene.found.set_places({key(1): [HERE]})
        await asyncio.sleep(5)
        assert scene.dialled == []
        assert scene.table.peers == []

    played(scene)


def test_who_goes_while_he_is_dialled_is_not_connected() -> None:
    async def scene(scene: Scene) -> None:
        scene.silent, scene.answering = {HERE}, {HERE, THERE}
        scene.found.set_places({key(1): [HERE]})
        await asyncio.sleep(1)
        assert scene.dialled == [HERE]
        scene.found.set_places({key(1): [THERE]})
        await asyncio.sleep(60)
        # What was made at the old place is given up, and the new one dialled.
        assert THERE in scene.dialled
        assert scene.asked() == [key(1)]
        assert [link.usable for link in scene.links].count(True) == 1

    played(scene)


def test_one_that_was_dialled_in_vain_is_dialled_at_once_at_a_new_place() -> None:
    async def scene(scene: Scene) -> None:
        scene.found.set_places({key(1): [THERE]})
        # By now minutes pass between two tries.
        await asyncio.sleep(2000)
        [peer] = scene.table.peers
        scene.found.set_places({key(1): [THERE, HERE]})
        await asyncio.sleep(1)
        assert scene.table.askable() == [peer]

    played(scene)


def test_whoever_announces_more_and_more_places_has_few_of_them_dialled() -> None:
    async def scene(scene: Scene) -> None:
        for moment in range(240):
            ports = range(8 * moment + 1, 8 * moment + 9)
            places = {key(n): [Place("10.0.0.9", port) for port in ports] for n in range(1, 33)}
            scene.found.set_places(places)
            await asyncio.sleep(0.25)
        # In a minute two a second, beside those that may be dialled at once.
        assert 100 < len(scene.dialled) <= 64 + 2 * 60 + 1

    played(scene)


def test_who_is_announced_at_many_places_keeps_nobody_from_being_dialled() -> None:
    async def scene(scene: Scene) -> None:
        scene.answering = {HERE}
        many = {
            key(n): [Place("10.0.0.9", 100 * n + port) for port in range(8)] for n in range(2, 33)
        }
        scene.found.set_places(many)
        await asyncio.sleep(30)
        scene.found.set_places({key(2): many[key(2)]})
        scene.found.set_places(many | {key(1): [HERE]})
        await asyncio.sleep(31 / 2 + 1)
        assert scene.asked() == [key(1)]

    played(scene)


def test_lies_about_those_that_were_found_do_not_hold_up_those_that_were_named() -> None:
    async def scene(scene: Scene) -> None:
        many = {key(n): [Place("10.0.0.9", n * 9 + p) for p in range(8)] for n in range(1, 33)}
        scene.found.set_places(many)
        await asyncio.sleep(10)
        scene.found.set_places(many | {NAMED: [HERE]})
        await asyncio.sleep(0.5)
        assert scene.asked() == [NAMED]

    played(scene, PeerSettings(key=NAMED))


def test_there_are_no_more_than_some_and_one_in_vain_makes_room_after_a_while() -> None:
    async def scene(scene: Scene) -> None:
        places = {key(n): [HERE] for n in range(1, MOST_FOUND + 1)}
        places[key(1)] = [THERE]
        scene.found.set_places(places)
        await scene.found.all_tried()
        assert len(scene.table.peers) == MOST_FOUND
        assert len(scene.asked()) == MOST_FOUND - 1
        more = {**places, key(999): [HERE]}
        scene.found.set_places(more)
        assert key(999) not in scene.found
        await asyncio.sleep(60)
        scene.found.set_places(more)
        assert key(999) in scene.found
        assert key(1) not in scene.found
        assert len(scene.table.peers) == MOST_FOUND

    played(scene)


def test_a_peer_that_was_named_by_its_key_keeps_its_rights_and_its_place_in_the_table() -> None:
    async def scene(scene: Scene) -> None:
        [peer] = scene.table.peers
        scene.found.set_places({NAMED: [HERE]})
        await scene.found.all_tried()
        assert scene.table.askable() == [peer]
        assert peer.may("get")
        scene.found.set_places({})
        assert scene.table.peers == [peer]
        assert scene.asked() == []
        assert scene.forgotten == []

    played(scene, PeerSettings(key=NAMED, rights=frozenset({"get"})))


def test_a_peer_that_is_connected_already_is_dialled_only_when_that_ends() -> None:
    async def scene(scene: Scene) -> None:
        [peer] = scene.table.peers
        inbound = Link()
        scene.table.came(inbound, NAMED)
        scene.found.set_places({NAMED: [HERE]})
        await asyncio.sleep(5)
        assert scene.dialled == []
        scene.table.left(inbound)
        await scene.found.all_tried()
        assert [direction for _, direction in peer.links] == [Direction.DIALLED]

    played(scene, PeerSettings(key=NAMED))


@pytest.mark.parametrize("answers", [True, False])
def test_a_peer_with_a_url_is_dialled_where_it_is_found_if_that_does_not_answer(
    answers: bool,
) -> None:
    url = parse_store_url(f"coaps+tcp://server.example#{NAMED}")
    assert isinstance(url.endpoint, TlsEndpoint)

    async def scene(scene: Scene) -> None:
        async def dial() -> Link:
            if not answers:
                await asyncio.sleep(10)
                raise StoreUnavailable("no connection")
            return Link()

        [peer] = scene.table.peers
        scene.by_url = Dialler("server", dial, lambda link: scene.table.reached(peer, link))
        dialling = asyncio.ensure_future(scene.by_url.run())
        scene.found.set_places({NAMED: [HERE]})
        await asyncio.sleep(3)
        assert scene.dialled == ([] if answers else [HERE])
        assert scene.table.askable() == [peer]
        dialling.cancel()
        await asyncio.wait([dialling])

    played(scene, PeerSettings(url, NAMED))

"""The daemon's side of seeds: whose wishes may cost them much, who may run one, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eris.errors import StoreRefused
from kapla.asking_seeds import Seeding
from kapla.coap.link import Link
from kapla.config import Config
from kapla.config.users import User
from kapla.peer_config import PeerSettings
from kapla.peers.peer_link import PeerLink
from kapla.peers.table import Peer
from kapla.urls import parse_store_url
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import FakeTransport
from tests.kapla.seeds.playing import NAMES, USER, Played, settle

CONFIG = Config(store=Path("/nowhere"), listen=(), seed_users=(User("seeder", USER),))
NEAR = 65004
FAR_AWAY = ("203.0.113.7", 5)


class Connected(FakeTransport):
    """A connection from an address."""

    def __init__(self, link: Link, place: tuple[str | int, ...]) -> None:
        super().__init__(link)
        self._place = place

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._place if name == "peername" else default


def from_place(*place: str | int) -> Link:
    link = Link()
    link.connection_made(Connected(link, place))
    return link


def a_program() -> Link:
    link = Link()
    link.connection_made(FakeTransport(link, USER))
    return link


def one_we_dialled() -> Link:
    peer: Peer[Any] = Peer(1, PeerSettings(url=parse_store_url("coap+tcp://far.example")))
    link = PeerLink(peer, lambda link: None, lambda link: None)  # type: ignore[arg-type, return-value]
    link.connection_made(Connected(link, FAR_AWAY))
    return link


@pytest.mark.parametrize(
    ("asker", "is_peer", "is_near"),
    [
        (a_program, False, True),
        (lambda: from_place("127.0.0.1", 5), False, True),
        (lambda: from_place("fe80::1%eth0", 5, 0, 1), False, True),
        (lambda: from_place(*FAR_AWAY), False, False),
        (lambda: from_place("2001:db8::7", 5, 0, 0), False, False),
        (lambda: from_place(*FAR_AWAY), True, True),
        (one_we_dialled, False, True),
        (Link, False, False),
        (object, False, False),
    ],
)
def test_a_seed_is_told_whether_somebody_near_asks(
    asker: Callable[[], object], is_peer: bool, is_near: bool
) -> None:
    async def test() -> None:
        seeding = Seeding(CONFIG, None, lambda link: is_peer)
        seed = Played(seeding.seeds)
        seeding.reach.fetch(NAMES[0], 0, asker(), lambda result: None)
        await settle()
        [question] = seed.asked
        assert any(number == NEAR for number, _ in question.options) == is_near

    run(test)


def test_who_may_run_one_is_settled_anew() -> None:
    async def test() -> None:
        seeding = Seeding(replace(CONFIG, seed_users=()), None, lambda link: False)
        with pytest.raises(StoreRefused):
            Played(seeding.seeds)
        seeding.settle(CONFIG)
        Played(seeding.seeds)
        assert seeding.report()["now"] == 1
        assert seeding.report()["refused"] == 1
        seeding.settle(replace(CONFIG, seed_users=(User("other", USER + 1),)))
        await settle()
        assert seeding.report()["now"] == 0

    run(test)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 20)

    run_without_waiting(bounded)

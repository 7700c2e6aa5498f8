"""Whose allowance is whose, and that nobody honest notices."""

from __future__ import annotations

import pytest

from kapla.coap.rate import NO_LIMIT
from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.budget import Budgets
from kapla.peers.table import PeerTable
from tests.kapla.peers.test_table import Link

SESSION_MISSES_PER_S = 2 * 256 * 4
"""Two questions of 256 blocks each quarter of a second."""


def peer(settings: PeerSettings | None = None) -> PeerTable[Link]:
    return PeerTable([settings or PeerSettings(key=PeerKey(bytes(32)))])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def go_on() -> None:
    pass


def test_all_connections_of_a_peer_share_one_and_each_peer_has_its_own() -> None:
    table: PeerTable[Link] = PeerTable([PeerSettings(key=PeerKey(bytes([n]) * 32)) for n in (1, 2)])
    budgets: Budgets[Link] = Budgets(None)
    one, other = table
    assert budgets.of(one) is budgets.of(one)
    assert budgets.of(one) is not budgets.of(other)
    assert budgets.of_strangers(may_put=False) is not budgets.of(one)


def test_rates_are_those_of_the_settings() -> None:
    budgets: Budgets[Link] = Budgets(1 << 20)
    [limited] = peer(PeerSettings(key=PeerKey(bytes(32)), max_rate=1 << 25))
    given = budgets.of(limited).given
    assert given is not None
    assert given.room(go_on) == 1 << 15
    assert (of_strangers := budgets.of_strangers(may_put=False).given) is not None
    assert of_strangers.room(go_on) == 1 << 10
    unlimited = Budgets[Link](None).of_strangers(may_put=False).given
    assert unlimited is not None
    unlimited.took(go_on, 1 << 30)
    assert unlimited.room(go_on) == NO_LIMIT
    of_a_peer = Budgets[Link](1 << 20).of(next(iter(peer()))).given
    assert of_a_peer is not None
    assert of_a_peer.room(go_on) == NO_LIMIT


def test_whoever_may_put_asks_about_all_that_it_brings() -> None:
    budgets: Budgets[Link] = Budgets(None)
    [uploader] = peer(PeerSettings(key=PeerKey(bytes(32)), rights=frozenset({"put"})))
    assert budgets.of(uploader).presence is None
    assert budgets.of_strangers(may_put=True).presence is None


@pytest.mark.parametrize("seconds", [10, 3600])
def test_a_session_that_finds_nothing_here_never_waits(seconds: int) -> None:
    clock = Clock()
    budgets: Budgets[Link] = Budgets(None, clock)
    [honest] = peer()
    allowance = budgets.of(honest)
    assert allowance.presence is not None
    for _ in range(seconds):
        clock.now += 1
        allowance.presence.took(go_on, SESSION_MISSES_PER_S * allowance.prices.miss)
        assert allowance.presence.room(go_on) > 0


def test_whoever_goes_through_a_list_waits() -> None:
    clock = Clock()
    budgets: Budgets[Link] = Budgets(None, clock)
    allowance = budgets.of_strangers(may_put=False)
    assert allowance.presence is not None
    told = 0
    for _ in range(60):
        clock.now += 1
        while allowance.presence.room(go_on):
            allowance.presence.took(go_on, 1024 * allowance.prices.miss)
            told += 1024
    assert told < 300_000

"""What is told of a peer, in whatever state."""

from __future__ import annotations

import json
from typing import Any

from kapla.coap.allowance import Allowance, Prices
from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.dialling import Dialler, State
from kapla.peers.report import peer_facts
from kapla.peers.table import PeerTable
from kapla.urls import parse_store_url

KEY = PeerKey(bytes([7]) * 32)
NOW = 1000.0


class Link:
    usable = True
    address = "192.0.2.1:5684"
    ping_s: float | None = None


class Watched:
    """One peer, and all that is told of it."""

    def __init__(self, *, is_dialled: bool = False) -> None:
        url = parse_store_url("coap+tcp://desktop/") if is_dialled else None
        key = None if is_dialled else KEY
        self.table: PeerTable[Any] = PeerTable([PeerSettings(url, key, name="desktop")])
        [self.peer] = self.table
        self.dialler = Dialler("x", _never, lambda link: None) if is_dialled else None
        self.given = Allowance(None, None, Prices(0, 0))

    def told(self, *names: str) -> list[object]:
        facts = peer_facts(self.peer, self.dialler, self.given, NOW)
        json.dumps(facts, allow_nan=False)
        return [facts[name] for name in names]


async def _never() -> Any:
    raise AssertionError


def test_one_that_dials_us_is_away_or_connected() -> None:
    watched = Watched()
    assert watched.told("state", "direction", "key", "url") == ["away", None, str(KEY), None]
    watched.table.came(Link(), KEY)
    assert watched.told("state", "direction", "connections", "address") == [
        "connected",
        "inbound",
        1,
        "192.0.2.1:5684",
    ]


def test_one_that_we_dial_tells_of_the_last_try_and_the_next() -> None:
    watched = Watched(is_dialled=True)
    assert watched.dialler is not None
    assert watched.told("state", "why", "next_try_s") == ["connecting", None, None]
    watched.dialler.state = State.WAITING
    watched.dialler.why, watched.dialler.next_try_at = "refused", NOW + 12
    assert watched.told("state", "why", "next_try_s") == ["waiting", "refused", 12]
    # A clock that has gone on meanwhile.
    watched.dialler.next_try_at = NOW - 1
    assert watched.told("next_try_s") == [0]
    watched.table.reached(watched.peer, Link())
    assert watched.told("state", "direction", "why", "next_try_s") == [
        "connected",
        "dialled",
        None,
        None,
    ]


def test_the_one_that_is_asked_is_told_of_if_there_are_two() -> None:
    watched = Watched(is_dialled=True)
    first, second = Link(), Link()
    second.address = "192.0.2.2:1"
    watched.table.reached(watched.peer, first)
    watched.table.reached(watched.peer, second)
    assert watched.told("connections", "address") == [2, "192.0.2.2:1"]


def test_round_trips_are_those_of_blocks_or_else_of_pings() -> None:
    watched = Watched()
    link = Link()
    watched.table.came(link, KEY)
    assert watched.told("rtt_s", "hit_ratio", "rate") == [None, None, 0]
    link.ping_s = 0.05
    assert watched.told("rtt_s") == [0.05]
    standing = watched.peer.standing
    standing.asked(1024, NOW)
    standing.released(1024)
    standing.gave(1024, 0.02, NOW)
    standing.lacked(NOW)
    assert watched.told("rtt_s", "hit_ratio", "blocks_in", "bytes_in") == [0.02, 0.5, 1, 1024]


def test_a_breaker_tells_why_and_until_when() -> None:
    watched = Watched()
    assert watched.told("breaker", "breaker_s") == [None, None]
    watched.peer.standing.fell_silent(NOW)
    assert watched.told("breaker", "breaker_s") == ["it does not answer", 2]


def test_what_was_given_is_counted() -> None:
    watched = Watched()
    watched.given.blocks, watched.given.block_bytes = 3, 98304
    assert watched.told("blocks_out", "bytes_out") == [3, 98304]

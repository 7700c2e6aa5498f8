"""Which peers there are, and by which connections they can be asked."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.table import Direction, Peer, PeerTable
from kapla.urls import parse_store_url

DESKTOP, SERVER, STRANGER = (PeerKey(bytes([n]) * 32) for n in (1, 2, 3))
PLAIN = parse_store_url("coap+tcp://10.0.0.2")


@dataclass(eq=False)
class Link:
    usable: bool = True


@dataclass
class Watched:
    """A table, and what it told of."""

    told: list[tuple[str, Link | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table: PeerTable[Link] = PeerTable(
            [
                PeerSettings(key=DESKTOP, name="desktop"),
                PeerSettings(key=SERVER, rights=frozenset({"get", "relay"})),
                PeerSettings(url=PLAIN, rights=frozenset()),
            ],
            self._note,
        )
        self.desktop, self.server, self.plain = self.table

    def _note(self, peer: Peer[Link]) -> None:
        self.told.append((peer.name, peer.link))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_who_is_not_connected_is_not_asked(watched: Watched) -> None:
    assert watched.table.askable() == []
    assert [peer.link for peer in watched.table] == [None, None, None]


def test_who_connects_with_a_known_key_is_asked(watched: Watched) -> None:
    link = Link()
    assert watched.table.came(link, DESKTOP) is watched.desktop
    assert watched.table.askable() == [watched.desktop]
    assert watched.table.whose(link) is watched.desktop
    assert watched.desktop.links == [(link, Direction.INBOUND)]
    assert watched.told == [(str(DESKTOP), link)]


@pytest.mark.parametrize("key", [None, STRANGER])
def test_strangers_are_never_asked(watched: Watched, key: PeerKey | None) -> None:
    link = Link()
    assert watched.table.came(link, key) is None
    assert watched.table.whose(link) is None
    watched.table.left(link)
    assert watched.table.askable() == []
    assert watched.told == []


def test_who_is_dialled_without_a_key_is_asked_there_and_nowhere_else(watched: Watched) -> None:
    inbound = Link()
    watched.table.came(inbound, None)
    assert watched.table.askable() == []
    watched.table.reached(watched.plain, Link())
    assert watched.table.askable() == [watched.plain]


def test_a_connection_that_has_ended_is_forgotten(watched: Watched) -> None:
    link = Link()
    watched.table.came(link, DESKTOP)
    link.usable = False
    assert watched.table.askable() == []
    watched.table.left(link)
    watched.table.left(link)
    assert watched.desktop.links == []
    assert watched.told == [(str(DESKTOP), link), (str(DESKTOP), None)]


@pytest.mark.parametrize("first", [0, 1])
def test_two_connections_to_one_key_are_one_peer_and_neither_is_closed(
    watched: Watched, first: int
) -> None:
    links = [Link(), Link()]
    name = str(DESKTOP)
    watched.table.came(links[0], DESKTOP)
    watched.table.reached(watched.desktop, links[1])
    assert watched.table.askable() == [watched.desktop]
    # Somebody comes again because the first is dead, which is not always noticed.
    assert watched.desktop.link is links[1]
    assert watched.told == [(name, links[0])]
    # Whichever goes first, the other is asked, and the peer is there all the time.
    links[first].usable = False
    watched.table.left(links[first])
    assert watched.desktop.link is links[1 - first]
    assert watched.told == [(name, links[0])]
    links[1 - first].usable = False
    watched.table.left(links[1 - first])
    assert watched.told == [(name, links[0]), (name, None)]


def test_a_connection_that_takes_no_more_requests_is_passed_over(watched: Watched) -> None:
    old, new = Link(), Link()
    watched.table.came(old, DESKTOP)
    old.usable = False
    watched.table.came(new, DESKTOP)
    assert watched.desktop.link is new


def test_those_that_asked_are_left_out(watched: Watched) -> None:
    watched.table.came(Link(), DESKTOP)
    watched.table.came(Link(), SERVER)
    found = watched.table.askable(but=frozenset({watched.desktop.number}))
    assert found == [watched.server]


def test_what_each_may_do_is_what_its_table_says(watched: Watched) -> None:
    rights = ("get", "lend", "put", "stat", "relay")
    assert [right for right in rights if watched.desktop.may(right)] == ["lend"]
    assert [right for right in rights if watched.server.may(right)] == ["get", "lend", "relay"]
    assert not any(watched.plain.may(right) for right in rights)


def test_a_peer_is_named_by_its_key_or_its_url(watched: Watched) -> None:
    assert [peer.name for peer in watched.table] == [str(DESKTOP), str(SERVER), "TCP 10.0.0.2:5683"]
    assert watched.table.with_key(SERVER) is watched.server
    assert watched.table.with_key(STRANGER) is None
    assert watched.table.with_key(None) is None

"""Which peers there are, what each may do here, and by which connections it can be asked. Pure.

Peers are those that the user named, and some that were found on networks that he named: no others
are ever asked. Those that were found come and go, and have no rights of their own: they are asked
where they were found, and when they connect to us they are strangers, as they may be anywhere then.

Each has a name, its key or, where we dial without one, its URL. Connections come and go; one that
is made is told of with the key that its other end has proved, if it has, and is then a peer's or a
stranger's.

Two daemons that dial each other have two connections. Both are kept: each end would have to close
the same one, and to know which that is. They are one peer all the same, asked by the one that was
made last, and by the other when that is gone. The last: an older one may be dead without a word,
which is why its other end has come again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Generic, Protocol, TypeVar

from kapla.identity.key import PeerKey
from kapla.peer_config import PeerSettings
from kapla.peers.session import Standing

__all__ = ["Direction", "Peer", "PeerTable", "Usable"]


class Direction(Enum):
    """Which end made a connection."""

    DIALLED = "dialled"
    INBOUND = "inbound"


class Usable(Protocol):
    """A connection, as far as the table cares."""

    @property
    def usable(self) -> bool:
        """Whether something can be asked on it."""
        ...


L = TypeVar("L", bound=Usable)


class Peer(Generic[L]):
    """One peer, and its connections."""

    def __init__(self, number: int, settings: PeerSettings, *, is_found: bool = False) -> None:
        self.is_found = is_found
        """It is none of those that the user named."""
        self.number = number
        """What tells it from the others, for those to whom a peer is a number."""
        self.settings = settings
        self.standing = Standing()
        """What is known of it, whichever connection it is asked by."""
        self._links: dict[L, Direction] = {}

    @property
    def name(self) -> str:
        """Its key as text, or its URL without a path: never secret."""
        return str(self.settings)

    @property
    def key(self) -> PeerKey | None:
        """Its key; None, if it is known by its URL alone."""
        return self.settings.key

    def may(self, right: str) -> bool:
        """Whether it may do this here: one that is given all is lent all, too."""
        rights = self.settings.rights
        return right in rights or (right == "lend" and "get" in rights)

    @property
    def links(self) -> list[tuple[L, Direction]]:
        """Its connections, the first that was made first."""
        return list(self._links.items())

    @property
    def link(self) -> L | None:
        """The connection by which it is asked; None, if it cannot be."""
        return next((link for link in reversed(self._links) if link.usable), None)

    def has(self, link: L) -> bool:
        """Whether this is one of its connections."""
        return link in self._links

    def enter(self, link: L, direction: Direction) -> None:
        """One more connection is its."""
        self._links[link] = direction

    def leave(self, link: L) -> None:
        """A connection has ended."""
        self._links.pop(link, None)


class PeerTable(Generic[L]):
    """All peers that were named, and those that are found.

    `on_change` is called with a peer that can be asked now and could not be before, or the other
    way round: see `Peer.link`. By which connection it is asked may change without that.
    """

    def __init__(
        self,
        named: Iterable[PeerSettings],
        on_change: Callable[[Peer[L]], None] = lambda peer: None,
    ) -> None:
        self.on_change = on_change
        # Numbers of those that can be asked, as far as was told.
        self._told: set[int] = set()
        self.peers: list[Peer[L]] = [
            Peer(number, settings) for number, settings in enumerate(named)
        ]
        self._by_key = {peer.key: peer for peer in self.peers if peer.key is not None}
        self.found_numbers: frozenset[int] = frozenset()
        """Of those that are there only because they were found."""
        # None is used twice: sessions may still know one that is gone by its number.
        self._next_number = len(self.peers)

    def __iter__(self) -> Iterator[Peer[L]]:
        return iter(self.peers)

    def found(self, key: PeerKey) -> Peer[L]:
        """One more peer, that was found: it may be asked where we dial it, and has no rights."""
        settings = PeerSettings(key=key, rights=frozenset())
        peer: Peer[L] = Peer(self._next_number, settings, is_found=True)
        self._next_number += 1
        self.peers.append(peer)
        self.found_numbers |= {peer.number}
        return peer

    def lost(self, peer: Peer[L]) -> None:
        """One that was found is there no more: it is not asked from now on."""
        self.peers.remove(peer)
        self.found_numbers -= {peer.number}
        for link, _ in peer.links:
            peer.leave(link)
        self._tell(peer)

    @property
    def keys(self) -> frozenset[PeerKey]:
        """Those of the peers that were named."""
        return frozenset(self._by_key)

    def with_key(self, key: PeerKey | None) -> Peer[L] | None:
        """The peer that was named by this key; None, if it is a stranger's."""
        return None if key is None else self._by_key.get(key)

    def came(self, link: L, key: PeerKey | None) -> Peer[L] | None:
        """Somebody connected to us, with this key or none; tells who, None if it is a stranger."""
        peer = self.with_key(key)
        if peer is not None:
            self._enter(peer, link, Direction.INBOUND)
        return peer

    def reached(self, peer: Peer[L], link: L) -> None:
        """We connected to a peer; that it has its key was proved by then."""
        self._enter(peer, link, Direction.DIALLED)

    def left(self, link: L) -> None:
        """A connection has ended, or takes no more requests."""
        peer = self.whose(link)
        if peer is not None:
            peer.leave(link)
            self._tell(peer)

    def whose(self, link: L) -> Peer[L] | None:
        """The peer at the other end of a connection; None, if it is a stranger."""
        return next((peer for peer in self.peers if peer.has(link)), None)

    def askable(self, but: frozenset[int] = frozenset()) -> list[Peer[L]]:
        """Those that can be asked now, without those of these numbers."""
        return [peer for peer in self.peers if peer.link is not None and peer.number not in but]

    def _enter(self, peer: Peer[L], link: L, direction: Direction) -> None:
        peer.enter(link, direction)
        self._tell(peer)

    def _tell(self, peer: Peer[L]) -> None:
        """Tell of a change, once."""
        can_be_asked = peer.link is not None
        if can_be_asked != (peer.number in self._told):
            self._told ^= {peer.number}
            self.on_change(peer)

"""Who is at the other end of a connection: a peer that was named, or a stranger.

A peer has the rights of its table, and those that strangers have on the same listener: it is not to
be better off without its key. On a connection where we know its key, or which we dialled, it can be
asked too. Strangers of a listener share one allowance. On Unix sockets, where the kernel tells who
it is, nothing is limited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from kapla.coap.fellows import Welcome
from kapla.coap.link import Link
from kapla.coap.requester import Requester
from kapla.coap.site import AiocoapLane
from kapla.coap.sockets import is_unix, notice_death
from kapla.identity.key import PeerKey
from kapla.peers.budget import Budgets
from kapla.peers.line import Line
from kapla.peers.peer_link import PeerLink
from kapla.peers.table import Peer, PeerTable
from kapla.storage.access import BlockAccess, Rights

__all__ = ["Door", "Hall", "requester_for"]

# Requests in flight at most: a bound for memory. A session has a window of its own.
_WINDOW: Final = 4096
_SILENT_S: Final = 60.0
# Whoever dials waits for less, and says so.
_GREETING_S: Final = 30.0
# Whoever dialled pings; this end leaves it to the kernel to notice that nobody is there any more.
_IDLE_S: Final = 60
_TRIES: Final = 3
# One that was lost is noticed late, and the peer is here again meanwhile.
_PLACES: Final = 4


def requester_for(peer: Peer[Line]) -> Callable[[Link], Requester]:
    """What makes the asking role of a link to this peer."""
    return lambda link: Requester(
        link, f"peer {peer.name}", _WINDOW, _SILENT_S, greeting_timeout_s=_GREETING_S
    )


@dataclass(frozen=True, slots=True)
class Hall:
    """What all listeners have in common, and the connections that we dialled."""

    table: PeerTable[Line]
    budgets: Budgets[Line]
    serve: Callable[[Rights], tuple[BlockAccess, AiocoapLane]]
    """Makes what peers with these rights use."""
    key_of: Callable[[asyncio.BaseTransport], PeerKey | None]
    """The key that the other end has proved to have."""

    def door(self, rights: Rights) -> Door:
        """One listener, where strangers have these rights."""
        return Door(self, rights)


class Door:
    """Tells apart those who come by one listener, or whom we reached: `Guests` of kapla.coap."""

    def __init__(self, hall: Hall, rights: Rights) -> None:
        self._hall = hall
        self._rights = rights
        self._of_peers: dict[int, tuple[BlockAccess, AiocoapLane]] = {}
        self._strangers = hall.budgets.of_strangers(may_put=rights.put)
        self.access, self.lane = hall.serve(rights)
        """What strangers use."""

    def welcome(self, link: Link) -> Welcome | None:
        """See who it is."""
        transport = link.transport
        if transport is None:
            return None
        if isinstance(link, PeerLink):
            return self._welcome_peer(link.peer)
        if is_unix(transport):
            return None
        peer = self._hall.table.with_key(self._hall.key_of(transport))
        if peer is None:
            return Welcome(self.access, self.lane, self._strangers)
        if link.connection.closing is None:
            # Not one that is refused: the last to come would be the one that is asked.
            notice_death(transport, _IDLE_S, _TRIES)
            link.asking = requester_for(peer)(link)
            self._hall.table.came(link, peer.key)
            link.closed.add_done_callback(lambda _: self._hall.table.left(link))
        return self._welcome_peer(peer)

    def forget(self, peer: Peer[Line]) -> None:
        """A peer is there no more."""
        self._of_peers.pop(peer.number, None)

    def has_a_place(self, link: Link) -> bool:
        """A peer does, some times: strangers are not to keep it out."""
        if isinstance(link, PeerLink):
            return True
        transport = link.transport
        key = None if transport is None else self._hall.key_of(transport)
        peer = self._hall.table.with_key(key)
        return peer is not None and len(peer.links) < _PLACES

    def may_ask_others(self, link: Link) -> bool:
        """Programs of this machine to which all is given, and peers that were given the right."""
        if link.transport is None:
            return False
        peer = link.peer if isinstance(link, PeerLink) else self._hall.table.whose(link)
        if peer is None:
            # To whom only what is lent is given, all that peers have would be more than that.
            return is_unix(link.transport) and self._rights.get
        return peer.may("relay")

    def _welcome_peer(self, peer: Peer[Line]) -> Welcome:
        known = self._of_peers.get(peer.number)
        if known is None:
            known = self._hall.serve(_rights_of(peer, self._rights))
            self._of_peers[peer.number] = known
        return Welcome(*known, self._hall.budgets.of(peer))


def _rights_of(peer: Peer[Line], others: Rights) -> Rights:
    """What a peer may do where others may do this."""
    return replace(
        others,
        get=others.get or peer.may("get"),
        lend=others.lend or peer.may("lend"),
        put=others.put or peer.may("put"),
        stat=others.stat or peer.may("stat"),
    )

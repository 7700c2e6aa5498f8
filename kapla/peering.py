"""The daemon's side of peers: who they are, connections to those that we dial, and the report."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from eris.errors import StoreUnavailable
from kapla.coap.allowance import Allowance
from kapla.coap.peers import Peers
from kapla.coap.site import AiocoapLane
from kapla.config import Config
from kapla.connecting import connect
from kapla.guests import Door, Hall, requester_for
from kapla.lan.judging import Place
from kapla.peer_config import check_peers
from kapla.peers.beyond import PeerBlocks
from kapla.peers.budget import Budgets
from kapla.peers.dialling import Dialler, Dialling
from kapla.peers.found import FoundPeers
from kapla.peers.keeping import Store
from kapla.peers.line import Line
from kapla.peers.peer_link import PeerLink
from kapla.peers.report import peer_facts
from kapla.peers.table import Peer, PeerTable
from kapla.storage.access import BlockAccess, Rights
from kapla.urls import HttpEndpoint, StoreUrl, TlsEndpoint

if TYPE_CHECKING:
    from kapla.http.asking.peer import HttpPeer
    from kapla.identity.key import PeerKey
    from kapla.identity.pair import KeyPair

__all__ = ["Peering"]

_CONNECT_S: Final = 10.0
# To strangers, of which there are none, a peer that we dialled is none.
_NOTHING: Final = Rights(get=False)


class Peering:
    """All that a daemon has to do with peers.

    `store`: where what peers gave is kept; `serve` makes what peers with some rights use;
    `own_pair` is who we are.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        serve: Callable[[Rights], tuple[BlockAccess, AiocoapLane]],
        own_pair: Callable[[], KeyPair],
    ) -> None:
        self.table: PeerTable[Line] = PeerTable(config.peers)
        # Any place will do, as long as others have other ones.
        self._blocks = PeerBlocks(self.table, store, secrets.randbits(32))
        self._budgets: Budgets[Line] = Budgets(config.max_stranger_rate)
        self._hall = Hall(self.table, self._budgets, serve, _key_of)
        # Servers of HTTP, that nobody else would close.
        self._servers: set[HttpPeer] = set()
        self._dialling: Dialling[PeerLink | HttpPeer] = Dialling(self.table, self._dial)
        self.found: FoundPeers[PeerLink] = FoundPeers(
            self.table, self._dial_found, self._dialling.of, self._forget
        )
        """Those that are dialled where they were found."""
        self._looks_around = config.discover is not None
        self._own_pair = own_pair
        self._reached: Peers | None = None
        self._door: Door | None = None
        tell_blocks = self.table.on_change

        def changed(peer: Peer[Line]) -> None:
            tell_blocks(peer)
            self.found.changed(peer)

        self.table.on_change = changed

    @property
    def blocks(self) -> PeerBlocks | None:
        """Who is asked for what is not here. None: there is nobody."""
        return self._blocks if self.table.peers or self._looks_around else None

    def door(self, rights: Rights) -> Door:
        """Tells apart those who come by one listener, where strangers have these rights."""
        return self._hall.door(rights)

    def strangers(self) -> Allowance:
        """What those may take who come by one more door, where nobody is known."""
        return self._budgets.of_strangers(may_put=False)

    def start(
        self,
        reached: Callable[[Door], Peers],
        looked: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Begin to dial; `reached` makes what knows the connections that come of it.

        `looked` ends when those that are near have been found, or long enough was looked.
        Raises: ConfigError.
        """
        if any(peer.key is not None for peer in self.table):
            check_peers((peer.settings for peer in self.table), self._own_pair().public)
        self._door = self._hall.door(_NOTHING)
        self._reached = reached(self._door)
        self._dialling.start()

        async def tried() -> None:
            if looked is not None:
                await looked()
            await self._dialling.all_tried()
            await self.found.all_tried()

        self._blocks.begin(tried)

    def settle(self, config: Config) -> None:
        """Take over what may change meanwhile."""
        self._budgets.change_stranger_rate(config.max_stranger_rate)

    async def stop(self) -> None:
        """Dial no more."""
        self._blocks.stop()
        await self._dialling.stop()
        await self.found.stop()

    async def hang_up(self) -> None:
        """Ask servers of HTTP no more; other connections are ended by whoever has them."""
        for server in list(self._servers):
            await server.close("this daemon is stopping")

    def close(self) -> None:
        """Nobody asks any more, and the store is about to be closed."""
        self._blocks.close()

    def report(self) -> list[dict[str, object]]:
        """The facts of `kapla peers`."""
        now = time.monotonic()
        return [
            peer_facts(peer, self._dialler_of(peer), self._budgets.of(peer), now)
            for peer in self.table
        ]

    def _dialler_of(
        self, peer: Peer[Line]
    ) -> Dialler[PeerLink] | Dialler[PeerLink | HttpPeer] | None:
        """What dials it by its URL, else where it was found; None: it dials us."""
        by_url, by_place = self._dialling.of(peer), self.found.of(peer)
        return by_place if by_url is None else by_url

    def _forget(self, peer: Peer[Line]) -> None:
        """One that was found is there no more."""
        self._blocks.lost()
        self._budgets.forget(peer)
        if self._door is not None:
            self._door.forget(peer)

    def _pair_for(self, peer: Peer[Line]) -> KeyPair | None:
        """Who we are to a peer: nobody, where keys do not count, nor for one that was found."""
        return None if peer.key is None or peer.is_found else self._own_pair()

    async def _dial(self, peer: Peer[Line]) -> PeerLink | HttpPeer:
        assert peer.settings.url is not None
        if isinstance(peer.settings.url.endpoint, HttpEndpoint):
            return await self._reach(peer, peer.settings.url)
        return await self._connect(peer, peer.settings.url)

    async def _dial_found(self, peer: Peer[Line], place: Place) -> PeerLink:
        assert peer.key is not None
        url = StoreUrl(TlsEndpoint(place.address, place.port, peer.key))
        return await self._connect(peer, url, place.interface)

    async def _connect(
        self, peer: Peer[Line], url: StoreUrl, interface: str | None = None
    ) -> PeerLink:
        assert self._reached is not None
        link = PeerLink(peer, self._reached.answering, requester_for(peer))
        try:
            pair = self._pair_for(peer)
            await connect(url, lambda: link, _CONNECT_S, pair, interface)
            # Until then it may be anybody who takes connections.
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.wait([link.greeted])
        except TimeoutError:
            link.give_up("it did not greet")
            raise StoreUnavailable("it does not say what it is") from None
        except BaseException:
            link.abort()
            raise
        if not link.usable:
            raise StoreUnavailable(await link.wait_closed())
        link.ping()
        return link

    async def _reach(self, peer: Peer[Line], url: StoreUrl) -> HttpPeer:
        # Loaded by those who need it.
        from kapla.http.asking.peer import HttpPeer

        server = await HttpPeer.reach(url, peer.settings.name or peer.name, _CONNECT_S)
        self._servers.add(server)
        server.on_closed = self._servers.discard
        return server


def _key_of(transport: asyncio.BaseTransport) -> PeerKey | None:
    """Who is there; None: nobody that is known by a key."""
    if transport.get_extra_info("ssl_object") is None:
        return None
    # Loaded by those who need it.
    from kapla.identity.contexts import peer_key

    return peer_key(transport)

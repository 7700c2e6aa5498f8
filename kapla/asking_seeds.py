"""The daemon's side of seeds: who may be one, whose wishes may cost them much, and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kapla.coap.beyond import Beyond
from kapla.coap.link import Link
from kapla.coap.sockets import is_unix
from kapla.config import Config
from kapla.peers.peer_link import PeerLink
from kapla.seeds.first import SeedsFirst
from kapla.seeds.near import is_local_address
from kapla.seeds.seeds import Seeds

__all__ = ["Seeding"]


class Seeding:
    """All that a daemon has to do with seeds.

    `others`: who is asked for what no seed has; `is_peer`: whether one is at the other end.
    """

    def __init__(
        self, config: Config, others: Beyond | None, is_peer: Callable[[Link], bool]
    ) -> None:
        self.seeds: Final = Seeds(_uids(config))
        """Lets them in."""
        self.reach: Final = SeedsFirst(self.seeds, others, self._is_near)
        """All that can be asked for what is not here."""
        self._is_peer = is_peer

    def settle(self, config: Config) -> None:
        """Take over what may change meanwhile."""
        self.seeds.settle(_uids(config))

    def report(self) -> dict[str, int]:
        """How many there are, and what they did."""
        return self.seeds.counts.told(len(self.seeds))

    def _is_near(self, asker: object) -> bool:
        """Programs of this machine, peers, and whoever comes from an address of a local network."""
        if not isinstance(asker, Link) or asker.transport is None:
            return False
        if isinstance(asker, PeerLink) or is_unix(asker.transport) or self._is_peer(asker):
            return True
        place = asker.transport.get_extra_info("peername")
        return isinstance(place, tuple) and is_local_address(str(place[0]))


def _uids(config: Config) -> frozenset[int]:
    return frozenset(user.uid for user in config.seed_users)

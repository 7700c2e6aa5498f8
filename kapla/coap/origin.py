"""Where the blocks of a connection came from: counted as they are given, told when asked.

Each connection has counts of its own, and is told of no other's. They are for people: what came out
of this store, what from which peer, and how much was put.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kapla.coap.beyond import HERE, SEEDS
from kapla.coap.facts import Facts

__all__ = ["Amount", "OriginResource", "Origins"]

_MOST_NAMES: Final = 100
_OTHERS: Final = "others"


@dataclass(slots=True)
class Amount:
    """So many blocks, and their bytes."""

    blocks: int = 0
    bytes: int = 0

    def add(self, blocks: int, byte_count: int) -> None:
        """So many more."""
        self.blocks += blocks
        self.bytes += byte_count

    def told(self) -> dict[str, int]:
        """For JSON."""
        return {"blocks": self.blocks, "bytes": self.bytes}


@dataclass(slots=True)
class Origins:
    """What one connection was given, and gave."""

    here: Amount = field(default_factory=Amount)
    """Out of this store."""
    peers: dict[str, Amount] = field(default_factory=dict)
    """From others, by what people call them."""
    put: Amount = field(default_factory=Amount)
    seeds: Amount = field(default_factory=Amount)
    """Made again from files of this machine."""

    def came(self, source: str, byte_count: int) -> None:
        """A block came from somebody else; of very many names the last are one."""
        if source in (HERE, SEEDS):
            (self.here if source == HERE else self.seeds).add(1, byte_count)
            return
        if source not in self.peers and len(self.peers) >= _MOST_NAMES:
            source = _OTHERS
        self.peers.setdefault(source, Amount()).add(1, byte_count)

    def told(self, *, names: bool) -> dict[str, object]:
        """For JSON; without `names` all that came from others is one."""
        peers = {name: amount.told() for name, amount in self.peers.items()}
        if peers and not names:
            together = Amount()
            for amount in self.peers.values():
                together.add(amount.blocks, amount.bytes)
            peers = {_OTHERS: together.told()}
        return {
            "here": self.here.told(),
            "seeds": self.seeds.told(),
            "peers": peers,
            "put": self.put.told(),
        }


class OriginResource(Facts):
    """What this connection was given so far."""

    # It is about the connection, not the store.
    needs_stat = False

    async def facts(self, request: Any) -> object:
        """Who the peers are is for those who may ask what the daemon holds."""
        return request.remote.origins.told(names=self._access.rights.stat)

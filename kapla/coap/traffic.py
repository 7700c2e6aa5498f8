"""What went over all connections of a daemon: totals that only grow, and the last transfers.

Each connection counts by itself where its blocks came from (`kapla.coap.origin`). Its counts are
entered here once, when it has gone, and looked at while it is there by those who ask: so that there
are totals costs nothing for a block. Of the connections that have gone the last are remembered.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from kapla.coap.origin import Amount, Origins

__all__ = ["RECENT", "Place", "Traffic", "Visit"]

RECENT: Final = 16
"""Transfers that are told of: those under way, and of those that have ended the last."""

_LONGEST_NAME: Final = 64
_MOST_SOURCES: Final = 4
_PEERS: Final = "peers"


@dataclass(slots=True, eq=False)
class Visit:
    """One connection. `address`: of its other end, if it has one.

    `name`: who is there, for people, as far as that is known. `seconds`: once it is over.
    """

    origins: Origins
    address: str | None
    name: Callable[[], str | None]
    began: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    seconds: float | None = None

    @property
    def who(self) -> str | None:
        """Who is, or was, at the other end."""
        return self.name() or self.address

    def end(self) -> None:
        """It is over; what it is a part of may go."""
        self.seconds = time.monotonic() - self.began
        self.address, self.name = self.who, _nobody

    @property
    def bytes(self) -> int:
        """Of all blocks that went over it."""
        one = self.origins
        return one.here.bytes + one.seeds.bytes + one.put.bytes + _from_peers(one).bytes


class Place:
    """The connections of one listener. `kind`: the scheme of its URL."""

    def __init__(self, kind: str, ended: deque[tuple[str, Visit]]) -> None:
        self.kind = kind
        self._ended = ended
        self._open: set[Visit] = set()
        self._gone = Origins()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Visit]:
        """Those that are open."""
        return iter(self._open)

    def enter(
        self, origins: Origins, address: str | None, name: Callable[[], str | None] | None = None
    ) -> Visit:
        """A connection is made, which counts in `origins`."""
        visit = Visit(origins, address, name or _nobody)
        self._open.add(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """It is over; twice is nothing."""
        if visit not in self._open:
            return
        self._open.remove(visit)
        visit.end()
        _add(self._gone, visit.origins)
        if visit.bytes:
            self._ended.append((self.kind, visit))

    def totals(self) -> Origins:
        """Of all connections that there were; what peers gave is one."""
        total = Origins()
        for one in (self._gone, *(visit.origins for visit in self._open)):
            _add(total, one)
        return total


class Traffic:
    """All places of a daemon."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._ended: deque[tuple[str, Visit]] = deque(maxlen=RECENT)

    def place(self, kind: str) -> Place:
        """One more."""
        made = Place(kind, self._ended)
        self.places.append(made)
        return made

    def told(self) -> dict[str, object]:
        """The totals, for JSON."""
        total, listeners = Origins(), []
        for place in self.places:
            sums = place.totals()
            _add(total, sums)
            listeners.append({"kind": place.kind, "connections": len(place), **_sums(sums)})
        return {"traffic": _sums(total), "listeners": listeners}

    def transfers(self) -> list[dict[str, object]]:
        """Those under way, by their bytes, and then the last that have ended; for JSON."""
        under_way = [(place.kind, visit) for place in self.places for visit in place if visit.bytes]
        under_way.sort(key=lambda one: one[1].bytes, reverse=True)
        found = [*under_way[:RECENT], *reversed(self._ended)]
        return [_transfer(kind, visit) for kind, visit in found[:RECENT]]


def _nobody() -> None:
    return None


def _transfer(kind: str, visit: Visit) -> dict[str, object]:
    now = time.monotonic()
    seconds = now - visit.began if visit.seconds is None else visit.seconds
    peers = visit.origins.peers
    largest = sorted(peers, key=lambda name: peers[name].bytes, reverse=True)
    return {
        "listener": kind,
        "who": (visit.who or "")[:_LONGEST_NAME] or None,
        "began_at": round(visit.at, 3),
        "seconds": round(seconds, 3),
        "is_open": visit.seconds is None,
        "sources": {
            name[:_LONGEST_NAME]: peers[name].told() for name in islice(largest, _MOST_SOURCES)
        },
        **_sums(visit.origins),
    }


def _sums(origins: Origins) -> dict[str, object]:
    return {
        "here": origins.here.told(),
        "seeds": origins.seeds.told(),
        "peers": _from_peers(origins).told(),
        "put": origins.put.told(),
    }


def _from_peers(origins: Origins) -> Amount:
    total = Amount()
    for amount in origins.peers.values():
        total.add(amount.blocks, amount.bytes)
    return total


def _add(total: Origins, more: Origins) -> None:
    """What came from peers becomes one: there may be ever more of them."""
    total.here.add(more.here.blocks, more.here.bytes)
    total.put.add(more.put.blocks, more.put.bytes)
    total.seeds.add(more.seeds.blocks, more.seeds.bytes)
    peers = _from_peers(more)
    total.peers.setdefault(_PEERS, Amount()).add(peers.blocks, peers.bytes)

"""What there is to tell of peers: the facts of `kapla peers`. Pure."""

from __future__ import annotations

from typing import Any, Protocol

from kapla.coap.allowance import Allowance
from kapla.peers.dialling import Dialler, State
from kapla.peers.session import Standing
from kapla.peers.table import Direction, Peer

__all__ = ["AWAY", "peer_facts"]

AWAY = "away"
"""How it stands with a peer that dials us and has not."""


class Address(Protocol):
    """A connection, as far as a report cares."""

    @property
    def usable(self) -> bool:
        """Whether something can be asked on it."""
        ...

    @property
    def address(self) -> str | None:
        """Where its other end is."""
        ...

    @property
    def ping_s(self) -> float | None:
        """How long a Ping took, if one was answered."""
        ...


def peer_facts(
    peer: Peer[Any], dialler: Dialler[Any] | None, given: Allowance, now: float
) -> dict[str, object]:
    """All of one peer, for JSON: units stand in the names. `now` is of the loop's clock."""
    return {
        "name": peer.settings.name,
        "found": peer.is_found,
        "key": None if peer.key is None else str(peer.key),
        "url": None if peer.settings.url is None else str(peer.settings.url),
        "rights": sorted(peer.settings.rights),
        **_connection(peer, dialler, now),
        **_learnt(peer.link, peer.standing, now),
        "blocks_out": given.blocks,
        "bytes_out": given.block_bytes,
    }


def _connection(peer: Peer[Any], dialler: Dialler[Any] | None, now: float) -> dict[str, object]:
    link: Address | None = peer.link
    facts: dict[str, object] = {
        "state": State.CONNECTED.value,
        "direction": None,
        "connections": len(peer.links),
        "address": None,
        "why": None,
        "next_try_s": None,
    }
    if link is not None:
        directions: dict[Address, Direction] = dict(peer.links)
        return facts | {"direction": directions[link].value, "address": link.address}
    if dialler is None:
        return facts | {"state": AWAY}
    next_try_at = dialler.next_try_at
    return facts | {
        # One that has just gone is not dialled yet.
        "state": (State.WAITING if dialler.state is State.CONNECTED else dialler.state).value,
        "why": dialler.why,
        "next_try_s": None if next_try_at is None else _seconds(next_try_at - now),
    }


def _learnt(link: Address | None, standing: Standing, now: float) -> dict[str, object]:
    """How it does what it is asked."""
    rtt_s = None if link is None else link.ping_s
    if standing.round_trip.known:
        rtt_s = standing.srtt_s
    ratio, breaker = standing.hit_ratio, standing.breaker
    return {
        "rtt_s": None if rtt_s is None else round(rtt_s, 6),
        "rate": round(standing.window.rate),
        "hit_ratio": None if ratio is None else round(ratio, 4),
        "breaker": breaker.reason if breaker.is_open else None,
        "breaker_s": _seconds(breaker.until - now) if breaker.is_open else None,
        "blocks_in": standing.facts.blocks,
        "bytes_in": standing.facts.bytes,
    }


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 3)

"""What there is to tell of peers: the facts of `kapla peers`. Pure."""

from __future__ import annotations

from typing import Any, Protocol

from kapla.coap.allowance import Allowance
from kapla.peers.dialling import Dialler, State
from kapla.peers.table import Direction, Peer

__all__ = ["Known", "peer_facts"]

AWAY = "away"
"""How it stands with a peer that dials us and has not."""


class Known(Protocol):
    """What sessions have learnt of a peer."""

    @property
    def rtt_s(self) -> float | None:
        """How long a block takes, smoothed. None: nothing was asked yet."""
        ...

    @property
    def rate(self) -> float:
        """Bytes of blocks a second, of late."""
        ...

    @property
    def hit_ratio(self) -> float | None:
        """Which part of what it was asked for it had. None: nothing was asked yet."""
        ...

    @property
    def blocks(self) -> int:
        """How many blocks it gave."""
        ...

    @property
    def block_bytes(self) -> int:
        """Their bytes."""
        ...

    def breaker(self, now: float) -> tuple[str, float] | None:
        """Why nothing is asked of it, and seconds until it is tried again; None: it is asked."""
        ...


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
    peer: Peer[Any], dialler: Dialler[Any] | None, given: Allowance, known: Known | None, now: float
) -> dict[str, object]:
    """All of one peer, for JSON: units stand in the names. `now` is of the loop's clock."""
    return {
        "name": peer.settings.name,
        "key": None if peer.key is None else str(peer.key),
        "url": None if peer.settings.url is None else str(peer.settings.url),
        "rights": sorted(peer.settings.rights),
        **_connection(peer, dialler, now),
        **_learnt(peer.link, known, now),
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


def _learnt(link: Address | None, known: Known | None, now: float) -> dict[str, object]:
    ping_s = None if link is None else link.ping_s
    if known is None:
        rtt_s, broken, rate, ratio, blocks, block_bytes = ping_s, None, 0.0, None, 0, 0
    else:
        rtt_s = ping_s if known.rtt_s is None else known.rtt_s
        broken, rate, ratio = known.breaker(now), known.rate, known.hit_ratio
        blocks, block_bytes = known.blocks, known.block_bytes
    return {
        "rtt_s": None if rtt_s is None else round(rtt_s, 6),
        "rate": round(rate),
        "hit_ratio": None if ratio is None else round(ratio, 4),
        "breaker": None if broken is None else broken[0],
        "breaker_s": None if broken is None else _seconds(broken[1]),
        "blocks_in": blocks,
        "bytes_in": block_bytes,
    }


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 3)

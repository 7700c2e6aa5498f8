"""What sessions have learnt of a peer, as a report wants it."""

from __future__ import annotations

from kapla.peers.session import Standing

__all__ = ["Learnt"]


class Learnt:
    """Facts of one peer, out of its standing."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    @property
    def rtt_s(self) -> float | None:
        """How long a block takes, smoothed. None: nothing was asked yet."""
        return self._standing.srtt_s if self._standing.round_trip.known else None

    @property
    def rate(self) -> float:
        """Bytes of blocks a second, when it last had more to give than there was time."""
        return self._standing.window.rate

    @property
    def hit_ratio(self) -> float | None:
        """Which part of what it was asked for it had. None: nothing was asked yet."""
        return self._standing.hit_ratio

    @property
    def blocks(self) -> int:
        """How many blocks it gave."""
        return self._standing.facts.blocks

    @property
    def block_bytes(self) -> int:
        """Their bytes."""
        return self._standing.facts.bytes

    def breaker(self, now: float) -> tuple[str, float] | None:
        """Why nothing is asked of it, and seconds until it is tried again; None: it is asked."""
        breaker = self._standing.breaker
        if not breaker.is_open:
            return None
        return breaker.reason, max(0.0, breaker.until - now)

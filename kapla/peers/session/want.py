"""A reference that somebody waits for, and what is known of who has the block."""

from __future__ import annotations

from eris.model import Reference

__all__ = ["Want"]


class Want:
    """One wanted block. Peers are known by their numbers."""

    __slots__ = (
        "asking",
        "but",
        "failed",
        "flights",
        "has",
        "lacks",
        "number",
        "reference",
        "since",
        "was_failure",
        "weight",
    )

    def __init__(
        self, reference: Reference, number: int, weight: int, but: frozenset[int], since: float
    ) -> None:
        self.reference = reference
        self.number = number
        """Its place in the order of wanting."""
        self.weight = weight
        """Bytes that it brings."""
        self.but = but
        """Peers that are not to be asked."""
        self.since = since
        self.flights: set[int] = set()
        """Peers that were asked for it, and may answer in time."""
        self.has: set[int] = set()
        """Peers that said that they have it."""
        self.lacks: dict[int, float] = {}
        """Peers that said that they do not have it, and when."""
        self.failed: set[int] = set()
        """Peers that could not give it."""
        self.asking: set[int] = set()
        """Peers that are being asked whether they have it."""
        self.was_failure = False

    def is_out(self, peer: int) -> bool:
        """Whether there is no use in asking this peer."""
        return peer in self.lacks or peer in self.failed or peer in self.but

    def told(self, peer: int, is_there: bool, now: float) -> None:
        """A peer said whether it has it."""
        if is_there:
            self.has.add(peer)
            self.lacks.pop(peer, None)
        else:
            self.lacks[peer] = now

    def lacked(self, peer: int, now: float, *, was_promised: bool) -> None:
        """A peer was asked for it and does not have it; it may have said that it has."""
        self.has.discard(peer)
        if was_promised:
            self.failed.add(peer)
        else:
            self.lacks[peer] = now

    def gone(self, peer: int) -> None:
        """This peer is there no more."""
        self.has.discard(peer)
        self.lacks.pop(peer, None)
        self.failed.discard(peer)
        self.asking.discard(peer)
        self.flights.discard(peer)

"""How long a peer takes to answer, smoothed as TCP does."""

from __future__ import annotations

from typing import Final

__all__ = ["RoundTrip"]

# Of a peer that was never heard: far away, and not on another planet.
_UNKNOWN_S: Final = 0.1
# The clock and the event loop are no better than this; RFC 6298 has a granularity here too.
_SLACK_S: Final = 0.01


class RoundTrip:
    """Smoothed time and its variation, after RFC 6298, section 2."""

    __slots__ = ("known", "smoothed_s", "variation_s")

    def __init__(self) -> None:
        self.known = False
        self.smoothed_s = _UNKNOWN_S
        self.variation_s = _UNKNOWN_S / 2

    def learn(self, took_s: float, samples: int = 1) -> None:
        """Learn from an answer; `samples`: so many come in a round trip.

        Each counts for less then, as RFC 7323, appendix G, has it: else only the last would count.
        """
        if not self.known:
            self.known = True
            self.smoothed_s, self.variation_s = took_s, took_s / 2
            return
        deviation_s = abs(self.smoothed_s - took_s)
        self.variation_s += (deviation_s - self.variation_s) / (4 * samples)
        self.smoothed_s += (took_s - self.smoothed_s) / (8 * samples)

    def guess(self, took_s: float) -> None:
        """A short answer took so long; a whole block will take longer, nobody knows how much."""
        if not self.known:
            self.smoothed_s = self.variation_s = took_s

    @property
    def surely_s(self) -> float:
        """The smoothed time; before the first block, which may wait behind others', no guess."""
        return self.smoothed_s if self.known else max(self.smoothed_s, _UNKNOWN_S)

    @property
    def late_s(self) -> float:
        """An answer that takes longer is late."""
        return self.smoothed_s + 4 * self.variation_s + _SLACK_S

"""What goes on in a second, out of two looks at counters that only grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kapla.amounts import bytes_text

__all__ = ["Window", "number_text", "percent_text", "rate_text"]

_SHORTEST_S: Final = 0.2
_LEAST_SHOWN: Final = 0.005


@dataclass(frozen=True, slots=True)
class Window:
    """The time between two looks; since the start where there was none before."""

    seconds: float
    since_start: bool

    @classmethod
    def between(cls, now_s: float, before_s: float | None) -> Window:
        """Both are uptimes. A look before a restart, or a moment ago, tells nothing."""
        if before_s is None or now_s - before_s < _SHORTEST_S:
            return cls(max(now_s, _SHORTEST_S), since_start=True)
        return cls(now_s - before_s, since_start=False)

    def per_s(self, now: int, before: int) -> float:
        """By how much a counter grows in a second."""
        return max(0, now if self.since_start else now - before) / self.seconds

    @property
    def text(self) -> str:
        """Which time that is."""
        return "since the start, on average" if self.since_start else "now"


def rate_text(byte_rate: float) -> str:
    """Bytes a second."""
    return f"{bytes_text(byte_rate)}/s"


def number_text(number: float) -> str:
    """A number of things, in a second or at all."""
    if number and number < 10 and not float(number).is_integer():
        return f"{number:.1f}"
    return f"{number:,.0f}"


def percent_text(part: float | None) -> str:
    """A part of a whole; of what there is nothing of it is unknown."""
    if part is None:
        return "–"
    return "<1 %" if 0 < part < _LEAST_SHOWN else f"{100 * part:.0f} %"

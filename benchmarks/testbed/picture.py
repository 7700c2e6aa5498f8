"""What came when, as a picture: one content from several peers, and a crowd that wants the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.svg import line, opening, text
from benchmarks.testbed.stage import Curve

__all__ = ["draw"]

_WIDTH: Final = 860
_HEIGHT: Final = 420
_TOP: Final = 64
_BOTTOM: Final = 350
_MB: Final = 1e6
_STEPS: Final = 5
_COLOURS: Final = (
    "#888888",
    "#1f5fa8",
    "#b5421a",
    "#2c8a4b",
    "#8a3fa0",
    "#b58900",
    "#0a9a9a",
    "#c2185b",
    "#5d4037",
    "#3f51b5",
    "#000000",
)


class _Panel(NamedTuple):
    """One of the two plots, between `left` and `right`."""

    title: str
    left: int
    right: int


def draw(sources: Sequence[Curve], crowd: Sequence[Curve]) -> str:
    """The picture as SVG; a plot without curves is left out."""
    parts = opening(_WIDTH, _HEIGHT, "What came when: from several peers, and to a crowd")
    if sources:
        parts += _draw_panel(_Panel("From several peers of 10 Mbit/s, MB", 50, 400), sources)
    if crowd:
        parts += _draw_panel(_Panel("To each of ten, and from the first, MB", 490, 840), crowd)
    return "\n".join([*parts, "</svg>", ""])


def _draw_panel(panel: _Panel, curves: Sequence[Curve]) -> list[str]:
    longest = _round_up(max(curve.points[-1][0] for curve in curves))
    most = _round_up(max(curve.points[-1][1] for curve in curves) / _MB)

    def across(seconds: float) -> float:
        return panel.left + seconds / longest * (panel.right - panel.left)

    def up(megabytes: float) -> float:
        return _BOTTOM - megabytes / most * (_BOTTOM - _TOP)

    parts = [text("title", panel.left, 24, panel.title, "start")]
    for step in range(_STEPS + 1):
        seconds, megabytes = longest * step / _STEPS, most * step / _STEPS
        parts.append(line("grid", panel.left, up(megabytes), panel.right, up(megabytes)))
        parts.append(text("tick", panel.left - 8, up(megabytes) + 4, f"{megabytes:g}", "end"))
        parts.append(text("tick", across(seconds), _BOTTOM + 20, f"{seconds:g}", "middle"))
    middle = (panel.left + panel.right) / 2
    parts.append(text("", middle, _BOTTOM + 44, "seconds since the beginning", "middle"))
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across(seconds), up(count / _MB)) for seconds, count in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="curve" stroke="{colour}" points="{path}"/>')
        at = panel.left + number * (panel.right - panel.left) / max(len(curves), 7)
        parts.append(f'<rect x="{at:.1f}" y="40" width="8" height="8" fill="{colour}"/>')
        parts.append(text("tick", at + 11, 48, curve.name, "start"))
    return parts


def _round_up(value: float) -> float:
    """The next number that divides well into steps."""
    power: float = 10 ** math.floor(math.log10(value))
    return next(
        nice * power for nice in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if nice * power >= value
    )

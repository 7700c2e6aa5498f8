"""The cost of a block against the size of the store, drawn from the rows of `benchmarks.growth`.

A log-log plot of what GET and PUT take, and of what each PUT writes, as SVG. `python -m
benchmarks.plot` draws docs/growth.svg again from benchmarks/results.json.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from benchmarks.report import Row
from benchmarks.svg import line, opening, text

__all__ = ["draw"]

_ROW: Final = re.compile(r"(?P<kind>.+), (?P<size>[\d,]+) blocks")
_WIDTH: Final = 860
_HEIGHT: Final = 400
_TOP: Final = 64
_BOTTOM: Final = 340
_PAD: Final = 0.25  # of a decade, left and right of the points
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_Points = list[tuple[float, float]]


class _Curve(NamedTuple):
    """One line: the rows' kind, its name in the plot, its colour, where its figures stand."""

    kind: str
    label: str
    colour: str
    dashes: str = ""
    figures_above: bool = True


class _Panel(NamedTuple):
    """One of the two plots, between `left` and `right`."""

    title: str
    left: int
    right: int
    curves: Sequence[_Curve]


_PANELS: Final = (
    _Panel(
        "Time for a block of 1 KiB, µs",
        60,
        400,
        (
            _Curve("PUT", "PUT", "#b5421a"),
            _Curve("GET", "GET", "#1f5fa8", figures_above=False),
            _Curve("GET, cold page cache", "GET, cold page cache", "#1f5fa8", "5 4"),
        ),
    ),
    _Panel(
        "Written to the disk for each PUT, bytes",
        500,
        840,
        (_Curve("written for each PUT", "", "#b5421a"),),
    ),
)


def draw(rows: Iterable[Row]) -> str:
    """The plot as SVG; curves without rows are left out."""
    points: dict[str, _Points] = defaultdict(list)
    for row in rows:
        found = _ROW.fullmatch(row["case"])
        if found and row["ratio"] is None:
            points[found["kind"]].append((int(found["size"].replace(",", "")), row["ours"]))
    title = "The cost of a block against the number of blocks in the store"
    parts = opening(_WIDTH, _HEIGHT, title)
    for panel in _PANELS:
        curves = [(curve, sorted(points[curve.kind])) for curve in panel.curves]
        curves = [(curve, found) for curve, found in curves if found]
        if curves:
            parts += _draw_panel(panel, curves)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """From a number to its place on a logarithmic axis."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high = low, high
        self._start = start
        self._per_decade = (stop - start) / (high - low)

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self.low) * self._per_decade

    def decades(self) -> list[float]:
        """The powers of ten on the axis."""
        return [10.0**n for n in range(math.ceil(self.low), math.floor(self.high) + 1)]

    def between(self) -> list[float]:
        """Twice, three times, … nine times these, and those below the first."""
        powers = range(math.floor(self.low), math.ceil(self.high))
        steps = [digit * 10.0**n for n in powers for digit in range(2, 10)]
        return [value for value in steps if self.low <= math.log10(value) <= self.high]


def _draw_panel(panel: _Panel, curves: Sequence[tuple[_Curve, _Points]]) -> list[str]:
    counts = [math.log10(x) for _, found in curves for x, _ in found]
    costs = [math.log10(y) for _, found in curves for _, y in found]
    across = _Scale(min(counts) - _PAD, max(counts) + _PAD, panel.left, panel.right)
    low, high = math.floor(min(costs)), math.ceil(max(costs))
    up = _Scale(low, max(high, low + 1), _BOTTOM, _TOP)
    parts = [f'<text class="title" x="{panel.left}" y="24">{escape(panel.title)}</text>']
    for y in up.between():
        parts.append(line("minor", panel.left, up(y), panel.right, up(y)))
    for y in up.decades():
        parts.append(line("grid", panel.left, up(y), panel.right, up(y)))
        parts.append(text("tick", panel.left - 8, up(y) + 4, f"{y:,.0f}", "end"))
    for x in across.decades():
        parts.append(line("grid", across(x), _TOP, across(x), _BOTTOM))
        power = str(round(math.log10(x))).translate(_SUPERSCRIPTS)
        parts.append(text("tick", across(x), _BOTTOM + 20, f"10{power}", "middle"))
    middle = (panel.left + panel.right) / 2
    parts.append(text("", middle, _BOTTOM + 44, "blocks in the store", "middle"))
    parts.append(
        f'<rect class="frame" x="{panel.left}" y="{_TOP}" width="{panel.right - panel.left}"'
        f' height="{_BOTTOM - _TOP}"/>'
    )
    at = float(panel.left)
    for curve, found in curves:
        parts += _draw_curve(curve, [(across(x), up(y)) for x, y in found], [y for _, y in found])
        if curve.label:
            parts += _legend(curve, at)
            at += 46 + 7.2 * len(curve.label)
    return parts


def _draw_curve(curve: _Curve, places: _Points, costs: Sequence[float]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline class="curve" stroke="{curve.colour}"{_dashes(curve)} points="{path}"/>']
    for (x, y), cost in zip(places, costs, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{curve.colour}"/>')
        label = f"{cost:,.0f}" if cost >= 20 else f"{cost:.1f}"
        parts.append(text("tick", x, y + (-9 if curve.figures_above else 19), label, "middle"))
    return parts


def _legend(curve: _Curve, at: float) -> list[str]:
    y = 46
    return [
        f'<line class="curve" stroke="{curve.colour}"{_dashes(curve)} x1="{at:.0f}" y1="{y - 4}"'
        f' x2="{at + 24:.0f}" y2="{y - 4}"/>',
        text("", at + 30, y, curve.label, "start"),
    ]


def _dashes(curve: _Curve) -> str:
    return f' stroke-dasharray="{curve.dashes}"' if curve.dashes else ""


def main() -> None:
    """Draw from a file of results."""
    here = Path(__file__)
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else here.with_name("results.json")
    rows: list[Row] = json.loads(results.read_text())["growth"]["rows"]
    (here.parent.parent / "docs" / "growth.svg").write_text(draw(rows))


if __name__ == "__main__":
    main()

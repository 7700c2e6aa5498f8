"""What a measurement says, and how it is shown.

Each side is measured in rounds that take turns, so that a busy machine slows all alike; a row gives
medians, and the median of the rounds' ratios. A ratio whose rounds disagree too much is not a
measurement and is shown as such.
"""

from __future__ import annotations

import statistics
from typing import Final, Literal, TypedDict

__all__ = [
    "TOO_WIDE",
    "Row",
    "compare",
    "format_number",
    "format_ratio",
    "format_row",
    "heading",
    "mark",
    "single",
    "verdict",
]

TOO_WIDE: Final = 0.5
"""The middle half of a ratio's rounds may spread over this part of the ratio, not more."""


class Row(TypedDict):
    """One comparison, or one figure.

    `ours` and `peer` are in `unit`; `ratio` is ours to the peer's, None without a peer. `spread` is
    the distance of the quartiles of what is judged: the ratio, or our figure. `bar` must be reached
    and `goal` is hoped for: from above where `at_most`, else from below.
    """

    case: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None
    bar: float | None
    goal: float | None
    at_most: bool
    spread: float
    note: str


def compare(
    case: str,
    ours: list[float],
    peer: list[float],
    unit: str,
    bar: float | None = None,
    goal: float | None = None,
    *,
    at_most: bool = False,
    note: str = "",
) -> Row:
    """Compare two sides, whose rounds belong together."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return Row(
        case=case,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        unit=unit,
        ratio=statistics.median(ratios),
        bar=bar,
        goal=goal,
        at_most=at_most,
        spread=_spread(ratios),
        note=note,
    )


def single(
    case: str,
    values: list[float],
    unit: str,
    bar: float | None = None,
    goal: float | None = None,
    *,
    at_most: bool = False,
    note: str = "",
) -> Row:
    """A figure that is compared with nothing but its bar and goal."""
    return Row(
        case=case,
        ours=statistics.median(values),
        peer=None,
        unit=unit,
        ratio=None,
        bar=bar,
        goal=goal,
        at_most=at_most,
        spread=_spread(values),
        note=note,
    )


def _spread(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    quartiles = statistics.quantiles(values, n=4)
    return quartiles[2] - quartiles[0]


def verdict(row: Row) -> str:
    """What became of the bar: `goal`, `bar`, `NOT REACHED`, `unsure`, or nothing without one.

    Of a goal without a bar: `goal` or `below the goal`.
    """
    judged = row["ours"] if row["ratio"] is None else row["ratio"]
    if row["ratio"] is not None and row["spread"] > TOO_WIDE * row["ratio"]:
        return "unsure"

    def reached(mark: float | None) -> bool:
        return mark is not None and (judged <= mark if row["at_most"] else judged >= mark)

    if reached(row["goal"]):
        return "goal"
    if row["bar"] is None:
        return "" if row["goal"] is None else "below the goal"
    return "bar" if reached(row["bar"]) else "NOT REACHED"


def heading() -> str:
    """The first line of a table."""
    return (
        f"{'case':<46}{'ours':>10}{'peer':>10} {'unit':<9}{'ratio':>7} {'±':<5}"
        f"{'bar':<8}{'goal':<8}reached"
    )


def format_row(row: Row) -> str:
    """One line of a table."""
    peer = "" if row["peer"] is None else format_number(row["peer"])
    ratio = spread = ""
    if row["ratio"] is not None:
        ratio, spread = format_ratio(row["ratio"]), f"{row['spread'] / 2:.2f}"
    bar, goal = mark(row, "bar"), mark(row, "goal")
    line = f"{row['case']:<46}{format_number(row['ours']):>10}{peer:>10} {row['unit']:<9}"
    return f"{line}{ratio:>7} {spread:<5}{bar:<8}{goal:<8}{verdict(row)} {row['note']}".rstrip()


def mark(row: Row, name: Literal["bar", "goal"]) -> str:
    """A bar or a goal with its direction; nothing without one."""
    value = row[name]
    return "" if value is None else f"{'≤' if row['at_most'] else '≥'} {value:g}"


def format_number(value: float) -> str:
    """With as many digits as anybody reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def format_ratio(value: float) -> str:
    """With two digits behind the point, and more of a small one."""
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.4f}"

"""Pieces of plots, as SVG written by hand: it needs nothing but this file."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

__all__ = ["line", "opening", "text"]

_STYLE: Final = """
text { font: 13px sans-serif; fill: #333 }
.title { font-weight: bold; font-size: 15px }
.tick { font-size: 12px; fill: #555 }
.grid { stroke: #ddd; stroke-width: 1 }
.minor { stroke: #f1f1f1; stroke-width: 1 }
.frame { stroke: #888; stroke-width: 1; fill: none }
.curve { stroke-width: 2; fill: none }
""".strip()


def opening(width: int, height: int, title: str) -> list[str]:
    """What a picture begins with; `</svg>` ends it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line; kinds are classes of the style."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(kind: str, x: float, y: float, words: str, anchor: str) -> str:
    """Words that start, end or have their middle at a place."""
    style = f'class="{kind}" ' if kind else ""
    return f'<text {style}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'

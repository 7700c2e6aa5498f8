"""How much room text takes on a terminal: letters of some scripts are two columns wide; pure."""

from __future__ import annotations

from itertools import accumulate
from unicodedata import combining, east_asian_width

__all__ = ["cut_end", "cut_start", "padded", "width_of"]


def width_of(text: str) -> int:
    """The columns that a text takes, none of whose letters is a command to the terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut_end(text: str, columns: int) -> str:
    """As much of the beginning as there is room for."""
    if width_of(text) <= columns:
        return text
    return text[: sum(width <= columns for width in accumulate(map(_width, text)))]


def cut_start(text: str, columns: int) -> str:
    """As much of the end as there is room for."""
    return text[len(text) - len(cut_end(text[::-1], columns)) :]


def padded(text: str, columns: int, *, to_right: bool = False) -> str:
    """A text with blanks behind it, or before it, so that it takes so many columns."""
    blanks = " " * (columns - width_of(text))
    return blanks + text if to_right else text + blanks


def _width(letter: str) -> int:
    if combining(letter):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1

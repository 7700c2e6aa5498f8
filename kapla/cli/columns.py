"""Tables of text for people: columns as wide as they need to be."""

from __future__ import annotations

from collections.abc import Container, Sequence

from kapla.cli.width import padded, width_of

__all__ = ["table"]


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int] = ()
) -> list[str]:
    """Lines, with the head's first; none without rows. What may be long is last.

    `numbers`: the places of columns that end at the same place, as numbers do.
    """
    if not rows:
        return []
    widths = [max(map(width_of, column)) for column in zip(head, *rows, strict=True)]
    return [_line(cells, widths, numbers) for cells in (head, *rows)]


def _line(cells: Sequence[str], widths: Sequence[int], numbers: Container[int]) -> str:
    shown = [
        padded(cell, width, to_right=place in numbers)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(shown).rstrip()

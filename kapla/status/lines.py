"""What is shown of a server as lines of text, for terminals of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kapla.status.view import Figure, Group, Table, Tone, View

__all__ = ["Line", "Piece", "lines_of"]

_BAR: Final = 10
_NARROWEST: Final = 30
_TWO_COLUMNS: Final = 76
_GAP: Final = 2
_SMALLEST_CELL: Final = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a line. `is_soft`: it says less than what is beside it."""

    text: str
    tone: Tone = Tone.CALM
    is_soft: bool = False
    is_title: bool = False


Line = Sequence[Piece]


def lines_of(view: View, width: int) -> Iterator[Line]:
    """All of it, in so many columns."""
    width = max(_NARROWEST, width)
    state = f"{view.name}  {view.state}"
    yield (Piece(_cut(state, width), view.tone, is_title=True),)
    yield from _groups(view.groups, width)
    for table in view.tables:
        yield ()
        yield from _table(table, width)
    for note in view.notes:
        yield ()
        yield from ((Piece(line, is_soft=True),) for line in _wrapped(note, width))


def _groups(groups: Sequence[Group], width: int) -> Iterator[Line]:
    if width < _TWO_COLUMNS:
        for group in groups:
            yield ()
            yield from _group(group, width)
        return
    half = (width - _GAP) // 2
    for left, right in zip(groups[::2], groups[1::2], strict=False):
        yield ()
        yield from _beside(list(_group(left, half)), list(_group(right, half)), half)
    if len(groups) % 2:
        yield ()
        yield from _group(groups[-1], width)


def _beside(left: list[Line], right: list[Line], half: int) -> Iterator[Line]:
    for place in range(max(len(left), len(right))):
        first = left[place] if place < len(left) else ()
        second = right[place] if place < len(right) else ()
        space = half + _GAP - sum(len(piece.text) for piece in first)
        yield (*first, Piece(" " * space), *second)


def _group(group: Group, width: int) -> Iterator[Line]:
    yield (Piece(_cut(group.title, width), is_title=True),)
    longest = max((len(figure.label) for figure in group.figures), default=0)
    # One long text is not to push all others away.
    widest = max((len(figure.text) for figure in group.figures[1:]), default=0)
    for figure in group.figures:
        yield _figure(figure, width, longest, widest)


def _figure(figure: Figure, width: int, longest: int, widest: int) -> Line:
    """Label, text, and then as much as there is room for: the bar, and a note that fits."""
    label, text = figure.label.ljust(longest + _GAP), figure.text.rjust(widest)
    pieces = [Piece(label, is_soft=True), Piece(text, figure.tone)]
    if figure.of:
        pieces.append(Piece(f" {figure.of}", is_soft=True))
    room = width - sum(len(piece.text) for piece in pieces) - _GAP
    if figure.part is not None and room >= _BAR:
        pieces += [Piece("  "), Piece(_bar(figure.part), figure.tone)]
        room -= _BAR + _GAP
    if figure.note and len(figure.note) <= room:
        pieces += [Piece("  "), Piece(figure.note, is_soft=True)]
    return pieces


def _bar(part: float) -> str:
    full = round(_BAR * min(1.0, max(0.0, part)))
    return "━" * full + "╌" * (_BAR - full)


def _table(table: Table, width: int) -> Iterator[Line]:
    yield (Piece(table.title, is_title=True),)
    if not table.rows:
        yield (Piece(_cut(table.empty, width), is_soft=True),)
        return
    places, widths = _fitting(table, width)
    head = [table.columns[place].title for place in places]
    yield (Piece(_row(table, places, widths, head), is_soft=True),)
    for row in table.rows:
        yield (Piece(_row(table, places, widths, [row[place] for place in places])),)


def _fitting(table: Table, width: int) -> tuple[list[int], list[int]]:
    """Which columns there is room for, and how wide they are; the widest gives way last."""
    places = list(range(len(table.columns)))
    while True:
        widths = [
            max(len(table.columns[place].title), *(len(row[place]) for row in table.rows))
            for place in places
        ]
        excess = sum(widths) + _GAP * (len(widths) - 1) - width
        if excess <= 0:
            return places, widths
        last = max(places, key=lambda place: table.columns[place].rank)
        if table.columns[last].rank == 0:
            return places, _narrowed(table, places, widths, excess)
        places.remove(last)


def _narrowed(table: Table, places: list[int], widths: list[int], excess: int) -> list[int]:
    """Texts give way, the widest first; numbers that are cut say something else."""
    texts = [n for n, place in enumerate(places) if not table.columns[place].is_number]
    while excess > 0 and texts:
        widest = max(texts, key=lambda n: widths[n])
        if widths[widest] <= _SMALLEST_CELL:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _row(table: Table, places: list[int], widths: list[int], texts: Sequence[str]) -> str:
    cells = [
        _cut(text, width).rjust(width)
        if table.columns[place].is_number
        else _cut(text, width).ljust(width)
        for place, width, text in zip(places, widths, texts, strict=True)
    ]
    return (" " * _GAP).join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line

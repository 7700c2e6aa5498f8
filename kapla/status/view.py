"""What is shown of a server, whoever shows it: a page and a terminal show the same. A value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["Column", "Figure", "Group", "Table", "Tone", "View"]


class Tone(Enum):
    """How a figure is to be taken."""

    CALM = "calm"
    GOOD = "good"
    """All is as it should be."""
    NOTABLE = "notable"
    """Worth a look."""
    BAD = "bad"
    """Something is wrong."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `text`, with its unit; `of` how much it can be; a `note` that says more.

    `part`: of a whole, from 0 to 1, where a bar shows more than a number.
    """

    label: str
    text: str
    note: str = ""
    part: float | None = None
    tone: Tone = Tone.CALM
    of: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that belong together; the first is what matters most."""

    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Numbers end at the same place.

    `rank`: those with the highest go first where there is no room for all; 0 stays.
    """

    title: str
    is_number: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text, or what to say where there are none."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    empty: str


@dataclass(frozen=True, slots=True)
class View:
    """All of it. `state`: in a few words; `notes`: sentences."""

    name: str
    state: str
    tone: Tone
    groups: Sequence[Group]
    tables: Sequence[Table]
    notes: Sequence[str] = ()

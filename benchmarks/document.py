"""Writes the figures of a whole run into docs/performance.md, between its two marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.report import Row, format_number, mark, verdict

__all__ = ["write_figures"]

_BEGIN: Final = "<!-- figures: written by make bench -->\n"
_END: Final = "<!-- end of figures -->\n"


def write_figures(
    document: Path, machine: Mapping[str, object], rows: Mapping[str, Sequence[Row]]
) -> None:
    """Replace what stands between the marks.

    Raises: ValueError, if the document lacks them.
    """
    head, begin, rest = document.read_text().partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for figures")
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    tables = "\n".join("\n".join(_table(name, part)) for name, part in rows.items())
    document.write_text(f"{head}{begin}\n{described}.\n\n{tables}\n\n{end}{tail}")


def _table(name: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"### {name}\n"
    yield "| case | ours | peer | unit | ratio | bar | goal | reached | |"
    yield "|---|--:|--:|---|--:|---|---|---|---|"
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} ± {row['spread'] / 2:.2f}"
        cells = [
            row["case"].strip(),
            format_number(row["ours"]),
            "" if row["peer"] is None else format_number(row["peer"]),
            row["unit"],
            ratio,
            mark(row, "bar"),
            mark(row, "goal"),
            verdict(row),
            row["note"],
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""

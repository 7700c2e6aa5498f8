"""Writes what the benchmarks found into docs/performance.md, between its two marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from benchmarks.report import Row, format_number, format_ratio, mark, verdict

__all__ = ["Part", "write_figures"]

_BEGIN: Final = "<!-- figures: written by make bench -->\n"
_END: Final = "<!-- end of figures -->\n"


class Part(TypedDict):
    """What one part of the benchmarks found, and where."""

    machine: str
    rows: list[Row]


def write_figures(document: Path, parts: Mapping[str, Part]) -> None:
    """Replace what stands between the marks.

    Raises: ValueError, if the document lacks them.
    """
    head, begin, rest = document.read_text().partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for figures")
    machines: dict[str, list[str]] = {}
    for name, part in parts.items():
        machines.setdefault(part["machine"], []).append(name)
    where = "\n".join(f"{', '.join(names)}: {machine}.\n" for machine, names in machines.items())
    tables = "\n".join("\n".join(_table(name, part["rows"])) for name, part in parts.items())
    document.write_text(f"{head}{begin}\n{where}\n{tables}\n{end}{tail}")


def _table(name: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"### {name}\n"
    yield "| case | ours | peer | unit | ratio | bar | goal | reached | |"
    yield "|---|--:|--:|---|--:|---|---|---|---|"
    for row in rows:
        ratio = (
            ""
            if row["ratio"] is None
            else f"{format_ratio(row['ratio'])} ± {row['spread'] / 2:.2f}"
        )
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

"""What a store in PostgreSQL takes when it grows: on paper, from constants that are measured.

`python -m benchmarks.scale` writes the tables into docs/scale.md, from benchmarks/scale.json; `make
bench` measures what is in there. All that is here is arithmetic: sizes and counts are those of so
many blocks of one size, at random, as references are.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eris import BlockSize
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["CONSTANTS", "DOCUMENT", "Constants", "Work", "parse", "tables", "written"]

CONSTANTS: Final = Path(__file__).with_name("scale.json")
DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "scale.md"

_BEGIN: Final = "<!-- tables: written by python -m benchmarks.scale -->\n"
_END: Final = "<!-- end of tables -->\n"
_COUNTS: Final = (10**6, 10**7, 10**8, 10**9)
_RATES: Final = (1_000, 10_000, 100_000)
_PUT_RATES: Final = (100, 1_000, 10_000)
_PAGE: Final = 8192
_CHECKPOINTS_S: Final = (300, 1800)
_FULL_PART: Final = 0.7
"""A front end that works on more than this of a processor has queues."""

_URL: Final = "postgresql:///kapla"
_MIB: Final = 1 << 20
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Room:
    """What a block takes, in bytes: of the table's own file, of its index, of what it points to.

    `wal`: what is written of it ahead, without images of pages.
    """

    heap: float
    index: float
    toast: float
    wal: float

    @property
    def all(self) -> float:
        """What it takes of the disk, but for the WAL."""
        return self.heap + self.index + self.toast


@dataclass(frozen=True, slots=True)
class Work:
    """Processor time for a block, in microseconds."""

    front: float
    server: float


@dataclass(frozen=True, slots=True)
class Constants:
    """What was measured.

    `image`: bytes of an image of an index page in the WAL. `lookup`: the server's time for a
    block of 1 KiB, in microseconds, by how many generations there are. `work`: by what is done,
    `PUT` or `GET`, and the blocks' size.
    """

    machine: str
    room: dict[BlockSize, Room]
    image: float
    lookup: dict[int, float]
    work: dict[tuple[str, BlockSize], Work]


def parse(text: str) -> Constants:
    """Read constants from JSON. Raises: ValueError, if one is missing."""
    facts = json.loads(text)
    try:
        return Constants(
            facts["machine"],
            {size: Room(**facts["room"][str(int(size))]) for size in BlockSize},
            float(facts["image"]),
            {int(count): float(cost) for count, cost in facts["lookup"].items()},
            {
                (what, size): Work(**facts["work"][f"{what} {int(size)}"])
                for what in ("PUT", "GET")
                for size in BlockSize
            },
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the constants lack something: {error}") from error


def tables(constants: Constants) -> str:
    """All tables, as Markdown."""
    parts = (_rooms, _stores, _lookups, _works, _logs)
    return "\n".join("\n".join(part(constants)) for part in parts)


def written(document: str, constants: Constants) -> str:
    """A document with the tables between its two marks. Raises: ValueError, if it lacks these."""
    head, begin, rest = document.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the document has no place for tables")
    return f"{head}{begin}\n{tables(constants)}\n{end}{tail}"


def generations(stored: float, settings: PostgresSettings) -> int:
    """How many generations a store has that grew to so many bytes."""
    count, size = 1, 0.0
    while (own := settings.generation_size(int(size))) < stored - size:
        count, size = count + 1, size + own
    return count


def _rooms(constants: Constants) -> Iterator[str]:
    yield f"Measured on: {constants.machine}.\n"
    yield from _head("a block of", "table", "index", "TOAST", "together", "WAL")
    for size, room in constants.room.items():
        parts = (room.heap, room.index, room.toast, room.all, room.wal)
        yield _row(size.label, *(f"{part:,.0f} B" if part else "–" for part in parts))
    yield ""


def _stores(constants: Constants) -> Iterator[str]:
    yield from _head(
        "blocks", "of", "tables", "indexes", "TOAST", "together", "generations", "with a cap"
    )
    for size, room in constants.room.items():
        for count in _COUNTS:
            stored = count * room.all
            capped = PostgresSettings(_URL, max_size=int(stored * 1.1))
            yield _row(
                f"10{_power(count)}",
                size.label,
                *(_bytes(count * part) for part in (room.heap, room.index, room.toast, room.all)),
                str(generations(stored, PostgresSettings(_URL))),
                str(generations(stored, capped)),
            )
    yield ""


def _lookups(constants: Constants) -> Iterator[str]:
    counts = sorted(constants.lookup)
    yield from _head("generations", *map(str, counts))
    yield _row(
        "processor time of the server for a block",
        *(f"{constants.lookup[count]:.0f} µs" for count in counts),
    )
    yield ""


def _works(constants: Constants) -> Iterator[str]:
    yield from _head(
        "blocks/s",
        "of",
        "what",
        "bytes/s",
        "processors of front ends",
        "front ends",
        "of the server",
    )
    for (what, size), work in constants.work.items():
        for rate in _RATES:
            front = rate * work.front / 1e6
            yield _row(
                f"{rate:,}",
                size.label,
                what,
                _bytes(rate * size),
                _few(front),
                str(math.ceil(front / _FULL_PART)),
                _few(rate * work.server / 1e6),
            )
    yield ""


def _logs(constants: Constants) -> Iterator[str]:
    """WAL of PUTs of small blocks into the generation of a store of 10⁹, which has a cap."""
    room = constants.room[BlockSize.SMALL]
    stored = _COUNTS[-1] * room.all
    pages = _index_pages(room, PostgresSettings(_URL, max_size=int(stored * 1.1)), stored)
    told = [f"a checkpoint each {seconds // 60} min" for seconds in _CHECKPOINTS_S]
    yield from _head("PUTs/s of 1 KiB", *told, "without page images")
    for rate in _PUT_RATES:
        costs = [
            room.wal + _images(rate * each, pages) * constants.image for each in _CHECKPOINTS_S
        ]
        yield _row(f"{rate:,}", *(f"{_bytes(rate * cost)}/s" for cost in (*costs, room.wal)))
    yield ""


def _index_pages(room: Room, settings: PostgresSettings, stored: float) -> float:
    """Pages of the index into which new blocks go, when it is as large as it becomes."""
    return settings.generation_size(int(stored)) / room.all * room.index / _PAGE


def _images(puts: float, pages: float) -> float:
    """Images of pages of an index for each of so many PUTs between two checkpoints.

    Each has a page at random, and a page is written whole when it is first changed.
    """
    return pages * -math.expm1(-puts / pages) / puts


def _bytes(value: float) -> str:
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError


def _few(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.1g}"


def _power(count: int) -> str:
    return str(len(str(count)) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _head(*names: str) -> Sequence[str]:
    return [_row(*names), _row(*["--:"] * len(names)).replace(" ", "")]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Write the tables."""
    DOCUMENT.write_text(written(DOCUMENT.read_text(), parse(CONSTANTS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

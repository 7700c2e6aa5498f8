"""Pages of a damaged database, as they are salvaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kapla.storage.sqlite.care.records import (
    Cell,
    DamagedRecord,
    carve,
    cells,
    children,
    fits_page_size,
    kind_of,
    read_cell,
    read_record,
)

__all__ = ["database_page"]


def database_page(data: bytes) -> None:
    """A page, whichever number it has: no cell is more than there is of it."""
    for number in (1, 2):
        kind = kind_of(data, number)
        if kind is None:
            continue
        children(data, number)
        for at in cells(data, number):
            with contextlib.suppress(DamagedRecord):
                _check(read_cell(data, at, kind, max(512, len(data))))
    for cell in _carved(data):
        assert cell.row is None or -(2**63) <= cell.row < 2**63
        with contextlib.suppress(DamagedRecord):
            _check(cell)
    fits_page_size(data, len(data))


def _carved(data: bytes) -> Iterator[Cell]:
    yield from carve(data, 1024)
    yield from carve(data, 16384)


def _check(cell: Cell) -> None:
    assert len(cell.local) <= cell.length
    values = read_record(cell.local)
    assert sum(len(value) for value in values if isinstance(value, bytes)) <= len(cell.local)

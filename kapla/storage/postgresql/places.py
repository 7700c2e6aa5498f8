"""Places of blocks: the generation, and where a row is in its table, as one number of 63 bits."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FIRST", "Place", "parse_place"]

# A page has no more rows than this by far, and a table no more pages.
_ROW_BITS: Final = 11
_PAGE_BITS: Final = 32
_MOST: Final = 1 << 63


class Place(NamedTuple):
    """Where a block is; `row` counts from 1."""

    generation: int
    page: int
    row: int

    @property
    def number(self) -> int:
        """In the order of the places."""
        return (self.generation << _PAGE_BITS | self.page) << _ROW_BITS | self.row

    @property
    def ctid(self) -> str:
        """As the server calls it within the table."""
        return f"({self.page},{self.row})"

    @classmethod
    def at(cls, generation: int, ctid: str) -> Place:
        """The place of a row as the server tells it: "(page,row)"."""
        page, row = ctid[1:-1].split(",")
        return cls(generation, int(page), int(row))


FIRST: Final = Place(0, 0, 0)


def parse_place(number: int) -> Place:
    """The place of a number; what is none is before all, or behind."""
    number = min(max(number, 0), _MOST - 1)
    rest, row = divmod(number, 1 << _ROW_BITS)
    return Place(*divmod(rest, 1 << _PAGE_BITS), row)

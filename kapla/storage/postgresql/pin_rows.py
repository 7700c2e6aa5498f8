"""The rows of closed pins: read, found, and told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eris.model import Reference
from kapla.pins import PinSummary
from kapla.storage.pins import PinChoice, Sizes
from kapla.storage.postgresql.session import Cursor

__all__ = ["PinRow", "chosen", "page"]

_ROW: Final = (
    "SELECT number, owner, name, root, keep, lend, created, small, large, missing FROM pins"
)
_NAMED: Final = f"{_ROW} WHERE owner = %s AND name = %s"
_ROOTED: Final = f"{_ROW} WHERE owner = %s AND root = %s AND name IS NOT NULL ORDER BY number"
_PAGE_OF: Final = f"{_ROW} WHERE owner = %s AND name > %s ORDER BY name LIMIT %s"
_PAGE: Final = f"""
{_ROW} WHERE (owner, name) > (%s::bigint, %s) AND name IS NOT NULL ORDER BY owner, name LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class PinRow:
    """A closed pin, and what of its blocks there was when that was counted."""

    number: int
    owner: int
    name: str
    root: Reference | None
    keep: bool
    lend: bool
    created: int
    sizes: Sizes
    missing: int

    def summary(self, own: Sizes) -> PinSummary:
        """What is told of it. `own`: its blocks that no other pin has."""
        return PinSummary(
            name=self.name,
            owner=self.owner,
            root=self.root,
            keep=self.keep,
            lend=self.lend,
            created=self.created,
            small=self.sizes.small,
            large=self.sizes.large,
            own_small=own.small,
            own_large=own.large,
            missing=self.missing,
        )


def chosen(cursor: Cursor, choice: PinChoice) -> list[PinRow]:
    """Those that are meant, the oldest first. Raises: psycopg.Error."""
    if choice.name is None:
        cursor.execute(_ROOTED, (choice.owner, choice.root))
    else:
        cursor.execute(_NAMED, (choice.owner, choice.name))
    return [_row(*row) for row in cursor.fetchall()]


def page(cursor: Cursor, owner: int | None, after: tuple[int, str], most: int) -> list[PinRow]:
    """Some pins in the order of owner and name, of one owner or of all (None).

    Raises: psycopg.Error.
    """
    if owner is None:
        cursor.execute(_PAGE, (*after, most))
    else:
        cursor.execute(_PAGE_OF, (owner, after[1], most))
    return [_row(*row) for row in cursor.fetchall()]


def _row(
    number: int,
    owner: int,
    name: str,
    root: bytes | None,
    keep: bool,
    lend: bool,
    created: int,
    *counts: Any,
) -> PinRow:
    small, large, missing = counts
    known = None if root is None else Reference(root)
    return PinRow(number, owner, name, known, keep, lend, created, Sizes(small, large), missing)

"""Going through all blocks in the order of their places, generation by generation.

Rows are read as they lie in the table, a range of its pages at a time, so each part costs the same
wherever it is.
"""

from __future__ import annotations

from typing import Any

from psycopg import errors

from kapla.storage.postgresql import generations
from kapla.storage.postgresql.places import Place
from kapla.storage.postgresql.schema import blocks_table
from kapla.storage.postgresql.session import Session

__all__ = ["Along"]


class Along:
    """For one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def references(self, after: Place, most: int) -> list[tuple[Place, bytes, int]]:
        """The next blocks behind a place: where, their references, and how large they are.

        They are all of one generation. None: there are no more. Raises: StoreUnavailable.
        """
        known = self.session.retried(generations.read)
        for number in sorted(known.all):
            if number < after.generation:
                continue
            start = after if number == after.generation else Place(number, 0, 0)
            if rows := self._references(start, most):
                return rows
        return []

    def blocks(self, first: Place, last: Place) -> list[tuple[Place, bytes, bytes]]:
        """The blocks from one place to another one of its generation. Raises: StoreUnavailable."""
        columns = b"ctid::text, reference, block"
        condition = b"ctid >= %s::tid AND ctid <= %s::tid"
        rows = self._rows(first.generation, columns, condition, (first.ctid, last.ctid))
        return [(Place.at(first.generation, ctid), name, block) for ctid, name, block in rows]

    def _references(self, after: Place, most: int) -> list[tuple[Place, bytes, int]]:
        columns = b"ctid::text, reference, octet_length(block)"
        condition = b"ctid > %s::tid LIMIT %s"
        rows = self._rows(after.generation, columns, condition, (after.ctid, most))
        return [(Place.at(after.generation, ctid), name, size) for ctid, name, size in rows]

    def _rows(
        self, generation: int, columns: bytes, condition: bytes, values: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        table = str(blocks_table(generation).name).encode()
        statement = b" ".join((b"SELECT", columns, b"FROM", table, b"WHERE", condition))

        def work() -> list[tuple[Any, ...]]:
            with self.session.connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, values).fetchall()

        try:
            return self.session.again(work)
        except errors.UndefinedTable:
            # It made room meanwhile.
            return []

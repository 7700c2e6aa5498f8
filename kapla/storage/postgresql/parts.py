"""Long answers, a part at a time: so that no more than that is in memory.

Not by the driver's own cursors of the server, which do not work where statements are in a pipeline.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from kapla.storage.postgresql.session import Cursor

__all__ = ["rows_of"]

_ROWS: Final = 64
"""Rows of a part: of runs, 8 MiB."""


def rows_of(cursor: Cursor, query: str, *numbers: int) -> Generator[tuple[Any, ...]]:
    """The rows of a query, each `%d` of which is one of the numbers; one at a time of these.

    Within a transaction. Other statements may be executed meanwhile. Raises: psycopg.Error.
    """
    with cursor.connection.cursor(binary=True) as parts:
        text = f"DECLARE kapla_rows NO SCROLL CURSOR FOR {query % numbers}"
        parts.execute(text.encode(), prepare=False)
        try:
            while rows := parts.execute(f"FETCH {_ROWS} FROM kapla_rows".encode()).fetchall():
                yield from rows
        except GeneratorExit:
            # Whoever has enough closes it, and may ask for others in the same transaction.
            parts.execute("CLOSE kapla_rows")
            raise
        parts.execute("CLOSE kapla_rows")

"""Which blocks of a generation that leaves must stay.

Those of pins that keep, and of open ones, with what these lack: it may just have come. What a
closed pin lacks and has come stays too, while its owner has not pinned too much: then it is counted
when somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eris.model import BlockSize
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import between, checked, split
from kapla.storage.postgresql.session import Cursor

__all__ = ["kept_among"]

_RUNS: Final = (
    "SELECT names FROM pin_runs JOIN pins ON number = pin"
    " WHERE first <= '\\x{last}' AND last >= '\\x{first}'"
    " AND (name IS NULL OR keep AND (NOT lacking OR owner <> ALL('{{{full}}}'::bigint[])))"
)
_FULL: Final = f"""
SELECT owner FROM pins GROUP BY owner
HAVING sum(small * {BlockSize.SMALL:d} + large * {BlockSize.LARGE:d}) >= %s
"""


def kept_among(
    cursor: Cursor, names: Sequence[bytes], pinned_quota: int | None = None
) -> set[bytes]:
    """Which of these must stay; they are sorted, and all that there is between first and last.

    The more they are, the less often short runs are read: some ten thousand at a time are good.
    `pinned_quota`: bytes that one user may pin. Raises: psycopg.Error, StorageError.
    """
    if not names:
        return set()
    full: list[int] = []
    if pinned_quota is not None:
        full = [row[0] for row in cursor.execute(_FULL, (pinned_quota,)).fetchall()]
    query = _RUNS.format(first=names[0].hex(), last=names[-1].hex(), full=",".join(map(str, full)))
    among, found = set(names), set[bytes]()
    # No reference is longer than the last one that is asked for.
    end = names[-1] + b"\0"
    for (run,) in rows_of(cursor, query):
        found |= among.intersection(split(between(checked(run), names[0], end)))
    return found

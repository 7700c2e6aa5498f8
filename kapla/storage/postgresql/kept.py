"""Which blocks of a generation that leaves must stay.

Those of pins that keep, and of open ones, with what these lack: it may just have come. What a
closed pin lacks and has come stays too, while its owner has not pinned too much: then it is counted
when somebody looks.

There may be a hundred thousand pins, and each that is small has references everywhere. So they are
gone through for many references at once, and some in each transaction: since the generation was
marked nobody counts on what it has, so a pin that was looked at has nothing more of it later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from pyroaring import BitMap

from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import between, checked, split
from kapla.storage.postgresql.session import Cursor

__all__ = ["KeptAmong", "Looks"]

_PART: Final = 16 << 20
"""Bytes of runs that are read at a time: some 30 ms, while PUTs wait."""

_RUNS: Final = (
    "SELECT pin, names FROM pin_runs JOIN pins ON number = pin"
    " WHERE pin > {after:d} AND first <= '\\x{last}' AND last >= '\\x{first}'"
    " AND (name IS NULL OR keep AND (NOT lacking OR owner <> ALL('{{{full}}}'::bigint[])))"
    " ORDER BY pin"
)


@dataclass(slots=True)
class Looks:
    """What was found out for making room, by whichever session of a front end did a step.

    One at a time has the lock of eviction, and reads or changes this.
    """

    read: tuple[int, BitMap] | None = None
    """What was read, as far as it matters to a generation that leaves."""
    ahead: tuple[int, KeptAmong] | None = None
    """What must stay of the next references of it; of which generation."""
    samples: tuple[int, dict[int, KeptAmong]] = field(default_factory=lambda: (0, {}))
    """What must stay of some references of each, while one is chosen; as of which epoch."""


class KeptAmong:
    """Finds out which of some references of a generation must stay."""

    def __init__(self, names: Sequence[bytes], start: bytes = b"") -> None:
        """`names`: in order, from what follows on `start`; some hundred thousand are good."""
        self.names, self._start = names, start
        self.kept: set[bytes] = set()
        """Those that must stay, when all is known."""
        self._among = set(names)
        self._after: int | None = -1 if names else None

    @property
    def is_known(self) -> bool:
        """Whether all pins were looked at."""
        return self._after is None

    def look(self, cursor: Cursor, full: Sequence[int]) -> bool:
        """Look at some pins more; returns whether all is known. In a transaction.

        `full`: owners who have pinned too much. Raises: psycopg.Error, StorageError.
        """
        if self._after is not None:
            self._after = self._look(cursor, self._after, full)
        return self.is_known

    def covers(self, place: bytes) -> bool:
        """Whether the next reference after one is among these."""
        return bool(self.names) and self._start <= place < self.names[-1]

    def following(self, place: bytes, most: int) -> list[bytes]:
        """The next references after one."""
        start = bisect_right(self.names, place)
        return list(self.names[start : start + most])

    def _look(self, cursor: Cursor, after: int, full: Sequence[int]) -> int | None:
        """Returns the last pin that was looked at whole; None, if there are no more."""
        first, last = self.names[0], self.names[-1]
        query = _RUNS.format(
            after=after, first=first.hex(), last=last.hex(), full=",".join(map(str, full))
        )
        # No reference is longer than the last one that is asked for.
        end, read, at = last + b"\0", 0, after
        with closing(rows_of(cursor, query)) as rows:
            for pin, run in rows:
                # Each pin whole: between two transactions its runs may be written anew.
                if pin != at and read >= _PART:
                    return at
                self.kept |= self._among.intersection(split(between(checked(run), first, end)))
                read, at = read + len(run), pin
        return None

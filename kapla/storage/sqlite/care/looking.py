"""Reading stored blocks and hashing them, some at a time, on a connection of its own.

Nothing is noted of these reads: for eviction they are none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from eris.crypto import reference_of
from kapla.storage.port import BEFORE_ALL
from kapla.storage.sqlite.damage import is_bad_disk, is_damage
from kapla.storage.sqlite.engine import connect
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["Look", "Looker"]

_CACHE: Final = 1024 * 1024
# What is asked for one by one behind a page that cannot be read: more than one page leads to.
_MOST_PROBED: Final = 65536
# How many there are on the last page nobody knows, if it cannot be read.
_LAST_PROBED: Final = 16
# The writer looks at these again, and everybody's PUTs wait meanwhile.
_MOST_SUSPECTS: Final = 64
_FARTHEST: Final = 1 << 40
_AFTER: Final = "SELECT id, reference, block FROM blocks WHERE id > ? ORDER BY id"
_NEXT: Final = "SELECT id FROM blocks WHERE id >= ? ORDER BY id LIMIT 1"
_ONE: Final = "SELECT id, reference, block FROM blocks WHERE id = ?"


@dataclass(slots=True)
class Look:
    """What some blocks were like. `last`: the id of the last one; None: there are no more."""

    last: int | None = None
    blocks: int = 0
    bytes: int = 0
    suspects: list[int] = field(default_factory=list)
    """Ids of blocks that are not what their references say, or cannot be read."""

    def take(self, row: tuple[Any, Any, Any]) -> None:
        """Look at one."""
        block_id, reference, block = row
        self.last = block_id
        self.blocks += 1
        if isinstance(block, bytes) and reference_of(block) == reference:
            self.bytes += len(block)
        else:
            self.suspects.append(block_id)


class Looker:
    """For one thread at a time. `close` it."""

    def __init__(self, settings: SqliteSettings) -> None:
        self._connection = connect(replace(settings, cache_bytes=_CACHE))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def look(self, after: int, size: int) -> Look:
        """Look at the blocks whose ids follow, until that is so many bytes or a little more.

        Raises: sqlite3.Error, when nothing can be read now.
        """
        found = Look()
        try:
            self._look_along(after, size, found)
        except sqlite3.Error as error:
            if not (is_damage(error) or is_bad_disk(error)):
                raise
            self._look_around(after if found.last is None else found.last, found)
        return found

    def _look_along(self, after: int, size: int, found: Look) -> None:
        """As long as all can be read. A million blocks pass here: no call is without need."""
        rows = self._connection.execute(_AFTER, (after,))
        block_id, blocks, sound = found.last, 0, 0
        try:
            for block_id, reference, block in rows:
                blocks += 1
                if type(block) is bytes and reference_of(block) == reference:
                    sound += len(block)
                    if sound >= size:
                        break
                else:
                    found.suspects.append(block_id)
                    if len(found.suspects) >= _MOST_SUSPECTS:
                        break
        finally:
            rows.close()
            found.last, found.blocks, found.bytes = block_id, blocks, sound

    def _look_around(self, after: int, found: Look) -> None:
        """The next ones each alone, as far as something there cannot be read."""
        if after == BEFORE_ALL:
            after = self._first() - 1
        end = self._next_readable(after)
        most = _LAST_PROBED if end is None else _MOST_PROBED
        for block_id in range(after + 1, min(end or after + most, after + most)):
            for row in self._probe(block_id, found):
                found.take(row)
        # Never the same place again.
        found.last = end - 1 if end is not None else None

    def _probe(self, block_id: int, found: Look) -> Iterator[tuple[Any, Any, Any]]:
        try:
            yield from self._connection.execute(_ONE, (block_id,)).fetchall()
        except sqlite3.Error as error:
            if not (is_damage(error) or is_bad_disk(error)):
                raise
            found.suspects.append(block_id)

    def _first(self) -> int:
        """Where to begin, where the first page cannot be read."""
        try:
            row = self._connection.execute(_NEXT, (BEFORE_ALL,)).fetchone()
        except sqlite3.Error:
            return 1
        return 1 if row is None else int(row[0])

    def _next_readable(self, after: int) -> int | None:
        """An id behind what cannot be read, not far; None: there is none."""
        step = 1
        while step < _FARTHEST:
            try:
                row = self._connection.execute(_NEXT, (after + step,)).fetchone()
            except sqlite3.Error as error:
                if not (is_damage(error) or is_bad_disk(error)):
                    raise
                step *= 2
                continue
            # It may be the next one, whose other pages are the matter.
            return None if row is None else max(int(row[0]), after + 2)
        return None

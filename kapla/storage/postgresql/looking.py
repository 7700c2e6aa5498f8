"""Reading stored blocks and hashing them, some at a time. For eviction these are no reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from eris.crypto import reference_of
from kapla.storage.postgresql.along import Along
from kapla.storage.postgresql.dropping import Suspect
from kapla.storage.postgresql.places import Place, parse_place
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["Look", "Looker"]

# Looked at at a time, if they are small enough.
_MOST: Final = 512


@dataclass(slots=True)
class Look:
    """What some blocks were like. `last`: where the last one is; None: there are no more."""

    last: int | None = None
    blocks: int = 0
    bytes: int = 0
    suspects: list[Suspect] = field(default_factory=list)


class Looker:
    """For one thread at a time. `close` it."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._session = Session(settings, "kaplad scrub")
        self._along = Along(self._session)

    def look(self, after: int, size: int) -> Look:
        """Look at the blocks behind a place, until that is so many bytes or a little more.

        Raises: StoreUnavailable.
        """
        found = Look()
        rows = self._along.references(parse_place(after), _MOST)
        if not rows:
            return found
        last = _last_of(rows, size)
        for row in self._along.blocks(rows[0][0], last):
            _take(found, *row)
        # Also where all of them went meanwhile.
        found.last = last.number
        return found

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def _take(found: Look, place: Place, reference: bytes, block: bytes) -> None:
    """Look at one."""
    found.blocks += 1
    if reference_of(block) == reference:
        found.bytes += len(block)
    else:
        found.suspects.append(Suspect(place.generation, reference))


def _last_of(rows: list[tuple[Place, bytes, int]], size: int) -> Place:
    """The place at which there are so many bytes."""
    for place, _, length in rows:
        size -= length
        if size <= 0:
            return place
    return rows[-1][0]

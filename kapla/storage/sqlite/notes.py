"""What the store notes of its own upkeep, so that a restart goes on where it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import IntEnum, unique
from typing import Final

from eris.model import BlockSize
from kapla.storage.sqlite.recent import Moved
from kapla.storage.sqlite.statements import statements

__all__ = ["REBUILD_NOTES", "Note", "counted_note", "moved_of", "read_notes", "write_notes"]


@unique
class Note(IntEnum):
    """The names of the notes, as they stand in the table `upkeep`."""

    MOVED_UNTIL = 1
    MOVED_PREFIX = 2
    REBUILD_BELOW = 3
    """Blocks from this id up are in the new index."""
    TOTALS_UNKNOWN = 4
    """The totals count only what came since the rebuilding began."""
    COUNTED_SMALL = 5
    COUNTED_LARGE = 6
    BEFORE_SMALL = 7
    """What the totals said when the rebuilding began."""
    BEFORE_LARGE = 8
    REBUILD_WANTED = 9
    """Something was lost of what follows from the blocks, and rebuilding has not begun yet."""
    LAST_ID = 20
    """No id up to this one is given again, though all that is behind it may be gone."""
    LAST_TURNED_ID = 21
    """The same for the ids of a store that has turned."""
    STALE_PLACES = 22
    """How many places of the index, or a few fewer, lead to what is gone."""
    ALL_PLACED = 23
    """Since the store was made, no row has been left behind to which no place leads."""
    SCRUB_AFTER = 30
    """The last id that the background scrub has looked at; none between two passes."""
    SCRUB_BEGAN = 31
    """When its last pass began: seconds since 1970."""


REBUILD_NOTES: Final = tuple(
    note for note in Note if Note.REBUILD_BELOW <= note <= Note.BEFORE_LARGE
)
"""What is no more to be known when rebuilding has ended."""


def counted_note(size: int, *, before: bool = False) -> Note:
    """The note of how many blocks of a size were counted, or were known before."""
    if size == BlockSize.SMALL:
        return Note.BEFORE_SMALL if before else Note.COUNTED_SMALL
    return Note.BEFORE_LARGE if before else Note.COUNTED_LARGE


def read_notes(connection: sqlite3.Connection) -> dict[Note, int]:
    """All notes. Raises: sqlite3.Error, ValueError if they are damaged."""
    rows = connection.execute(statements().notes).fetchall()
    if any(not isinstance(value, int) for _, value in rows):
        raise ValueError("a note is no number")
    return {Note(note): value for note, value in rows}


def write_notes(connection: sqlite3.Connection, notes: Mapping[Note, int | None]) -> None:
    """Note these, or no more where there is None; inside a transaction."""
    texts = statements()
    connection.executemany(texts.delete_note, [(int(note),) for note in notes])
    connection.executemany(
        texts.insert_note,
        [(int(note), value) for note, value in notes.items() if value is not None],
    )


def moved_of(notes: Mapping[Note, int]) -> Moved | None:
    """How far moving has come, if it is under way."""
    until, prefix = notes.get(Note.MOVED_UNTIL), notes.get(Note.MOVED_PREFIX)
    return None if until is None or prefix is None else Moved(until, prefix)

"""Moving places from the log into the index on disk: always in transactions of their own.

A PUT is committed and answered before; what fails here refuses nobody's block.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Final

from kapla.storage.sqlite.damage import transaction
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.notes import Note, write_notes
from kapla.storage.sqlite.recent import Moved, RecentPlaces, Slice, unpack_prefixes
from kapla.storage.sqlite.state import SqliteSettings
from kapla.storage.sqlite.statements import statements

__all__ = ["MOST_LOGGED", "Mover", "work_down"]

_log = logging.getLogger(__name__)

# How many generations the log may have when a store is opened, and how many are left of a longer
# one. In memory there are two, and a little.
MOST_LOGGED: Final = 3
# More than a commit of small blocks makes due.
_SLICES_AT_ONCE: Final = 8
_RUN: Final = 4
"""Generations moved at once when nobody is served yet: the larger a run, the more places share a
page. 30 MiB of memory."""

_NO_MOVE: Final[dict[Note, int | None]] = {Note.MOVED_UNTIL: None, Note.MOVED_PREFIX: None}


class Mover:
    """Moves places on the writer's connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        recent: RecentPlaces,
        settings: SqliteSettings,
        gone: Ids,
    ) -> None:
        self._connection = connection
        self._recent = recent
        self._settings = settings
        self._gone = gone

    def move(self) -> None:
        """Move what is due, a slice at least. Raises: sqlite3.Error; then nothing has moved."""
        slice_ = self._recent.slice
        count = max(slice_, min(self._recent.due(), _SLICES_AT_ONCE * slice_))
        self._move(self._recent.next_to_move(count))

    def move_all(self) -> None:
        """Empty the log, however much there is. Raises: sqlite3.Error."""
        while len(self._recent):
            self._move(self._recent.all_to_move(self._recent.generation))

    def _move(self, part: Slice) -> None:
        if not part.prefixes:
            return
        texts = statements()
        moved, is_last = self._recent.after(part)
        gone, places = self._gone, part.places
        if gone:
            places = [place for place in places if place[1] not in gone]
        with self._without_waiting(), transaction(self._connection):
            self._connection.executemany(texts.insert_place, places)
            if is_last:
                self._connection.execute(texts.forget_log, (moved.until_id,))
                write_notes(self._connection, _NO_MOVE)
            else:
                write_notes(self._connection, _notes_of(moved))
        self._recent.confirm(part)

    @contextmanager
    def _without_waiting(self) -> Iterator[None]:
        """A place that a power cut takes back is still in the log: no need to wait for the disk."""
        if self._settings.synchronous != "full":
            yield
            return
        self._connection.execute("PRAGMA synchronous = normal")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = full")


def work_down(connection: sqlite3.Connection, generation: int) -> None:
    """Shorten a log that is too long to be held in memory, before the store is used.

    Such ones were left by earlier versions. Each run is committed: killed meanwhile, it goes on at
    the next start. Raises: sqlite3.Error, StorageError if the log is damaged.
    """
    texts = statements()
    (logged,) = connection.execute(texts.logged_bytes).fetchone()
    left = (logged or 0) // 8
    if left <= MOST_LOGGED * generation:
        return
    _log.info("The log of new blocks is long: %d places move into the index first", left)
    while left > generation:
        run, until = _next_run(connection, _RUN * generation)
        with transaction(connection):
            connection.executemany(texts.insert_place, run)
            connection.execute(texts.forget_log, (until,))
            write_notes(connection, _NO_MOVE)
        left -= len(run)


def _next_run(connection: sqlite3.Connection, count: int) -> tuple[list[tuple[int, int]], int]:
    """The oldest places of the log in the order of the prefixes, and the id of the last."""
    run: list[tuple[int, int]] = []
    until = 0
    for first_id, entry in connection.execute(statements().read_log):
        prefixes = unpack_prefixes(entry)
        run += zip(prefixes, range(first_id, first_id + len(prefixes)), strict=True)
        until = first_id + len(prefixes) - 1
        if len(run) >= count:
            break
    # By the prefix alone: comparing pairs would take three times as long.
    run.sort(key=itemgetter(0))
    return run, until


def _notes_of(moved: Moved) -> dict[Note, int | None]:
    return {Note.MOVED_UNTIL: moved.until_id, Note.MOVED_PREFIX: moved.prefix}

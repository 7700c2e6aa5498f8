"""What the writer does beside keeping blocks: moving places, making anew what is damaged, the WAL.

It is done in small pieces between the rounds of the writer, and while there are none. What fails
here is told once and tried again later; it refuses no block.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from kapla.storage.complaints import Complaints
from kapla.storage.sqlite.damage import (
    is_bad_disk,
    is_damage,
    renew_table,
    replace_tables,
    transaction,
)
from kapla.storage.sqlite.engine import BUSY_TIMEOUT_S, WAL_LIMIT
from kapla.storage.sqlite.files import StoreFiles
from kapla.storage.sqlite.loading import LOGGED_AT_ONCE, checked_totals
from kapla.storage.sqlite.moving import Mover
from kapla.storage.sqlite.notes import Note, read_notes, write_notes
from kapla.storage.sqlite.rebuild import Rebuild, renew_totals
from kapla.storage.sqlite.recent import pack_prefixes
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import statements

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)

# Without a request for so long, the writer has time for what is not pressing.
_IDLE_S: Final = 0.2
_RETRY_S: Final = 5.0
_WAL_WARNING: Final = 8 * WAL_LIMIT


class Keeper:
    """The upkeep of an open store, on the writer's connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Database,
        files: StoreFiles,
        last_id: Callable[[], int],
        chores: Sequence[Callable[[bool], float | None]] = (),
    ) -> None:
        """`chores`: what else is to be done in small pieces, and called as `chore` is."""
        self._connection = connection
        self._database = database
        self._recent = database.recent
        self._files = files
        self._last_id = last_id
        self._chores = chores
        self._mover = Mover(connection, database.recent, database.settings, database.gone)
        self.rebuild: Rebuild | None = None
        self._complaints = Complaints(_log)
        self._is_wal_told = False

    def start(self) -> None:
        """Begin or go on with rebuilding, until the newest blocks are in the index.

        Their places may have been in the log. Small stores are whole after this.
        Raises: sqlite3.Error.
        """
        notes = read_notes(self._connection)
        if self._database.is_rebuild_wanted:
            self._begin_rebuild()
        elif self._database.is_rebuilding and Note.REBUILD_BELOW in notes:
            self.rebuild = Rebuild(self._connection, self._database, self._last_id() + 1)
            self.rebuild.resume(notes)
        enough = LOGGED_AT_ONCE * self._recent.generation
        while self.rebuild is not None and self.rebuild.scanned < enough:
            self._step()
        if self.rebuild is not None:
            self.rebuild.end_run()

    def chore(self, *, is_idle: bool) -> float | None:
        """Do a little of what there is to do.

        Returns after how many seconds it should be called again if nothing else comes; None: when
        there was something.
        """
        try:
            pauses = [self._chore(is_idle), *[chore(is_idle) for chore in self._chores]]
        except sqlite3.Error as error:
            self._complaints.tell(f"The store's upkeep failed, and is tried again: {error}")
            return _RETRY_S
        due = [pause for pause in pauses if pause is not None]
        if not due:
            self._complaints.well()
        return min(due, default=None)

    def mend(self) -> bool:
        """Make anew what cannot be used of the log, the totals and the notes; tells if any was so.

        Raises: sqlite3.Error.
        """
        mended = [self._mend_notes(), self._mend_totals(), self._mend_log()]
        return any(mended)

    def empty_log(self) -> None:
        """Move all places into the index. Raises: sqlite3.Error."""
        self._mover.move_all()

    def _chore(self, is_idle: bool) -> float | None:
        if self._database.is_rebuild_wanted:
            self._begin_rebuild()
        if self.rebuild is not None:
            self._step()
        if self._recent.due() >= self._recent.slice or (is_idle and self._recent.can_move()):
            self._move()
        self._watch_wal(is_idle)
        if self.rebuild is not None or self._database.is_rebuild_wanted:
            return 0.0
        if self._recent.due() >= self._recent.slice:
            return 0.0
        is_left = self._recent.can_move() or self._files.wal_bytes > WAL_LIMIT
        return (0.0 if is_idle and self._recent.can_move() else _IDLE_S) if is_left else None

    def _move(self) -> None:
        try:
            self._mover.move()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            if not self.mend():
                self._database.want_rebuild("index", error)

    def _begin_rebuild(self) -> None:
        self.mend()
        self.rebuild = Rebuild(self._connection, self._database, self._last_id() + 1)
        self.rebuild.begin()

    def _step(self) -> None:
        assert self.rebuild is not None
        try:
            if self.rebuild.step():
                self.rebuild = None
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._database.want_rebuild("index", error)

    def _mend_notes(self) -> bool:
        try:
            notes = read_notes(self._connection)
        except (sqlite3.Error, ValueError) as error:
            _check_damage(error)
        else:
            # A deletion of nothing: does the page let itself be written?
            with transaction(self._connection):
                write_notes(self._connection, {note: notes.get(note) for note in Note})
            return False
        _log.warning("The store's notes are damaged, and made anew")
        renew_table(self._connection, "upkeep")
        if self.rebuild is not None:
            self._database.is_rebuild_wanted = True
        return True

    def _mend_totals(self) -> bool:
        try:
            if checked_totals(self._connection) is not None:
                return False
        except sqlite3.Error as error:
            _check_damage(error)
        known = self._database.totals
        renew_totals(self._connection, known)
        if known is None:
            self._database.want_rebuild("table of totals", "it cannot be read")
        return True

    def _mend_log(self) -> bool:
        """Write again what is in memory, which is all that the log should hold."""
        texts = statements()
        try:
            self._connection.execute(texts.logged_bytes).fetchone()
            return False
        except sqlite3.Error as error:
            _check_damage(error)
        _log.warning("The store's log of new blocks is damaged, and written anew")

        def make() -> None:
            self._connection.execute(texts.create["recent"])
            self._connection.executemany(texts.log, _runs(self._recent.log()))

        replace_tables(self._connection, ["recent"], make)
        return True

    def _watch_wal(self, is_idle: bool) -> None:
        size = self._files.wal_bytes
        if size > _WAL_WARNING and not self._is_wal_told:
            self._is_wal_told = True
            _log.warning(
                "The WAL has grown to %d MiB: some program reads the store for long", size >> 20
            )
        if is_idle and size > WAL_LIMIT:
            self._empty_wal()
        if self._files.wal_bytes <= WAL_LIMIT:
            self._is_wal_told = False

    def _empty_wal(self) -> None:
        """Give the WAL's room back, if nobody reads from it now."""
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        self._files.are_ours()


def _runs(log: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Rows of the log: each of consecutive ids."""
    rows: list[tuple[int, list[int]]] = []
    for block_id, prefix in log:
        if not rows or block_id != rows[-1][0] + len(rows[-1][1]) or len(rows[-1][1]) >= 512:
            rows.append((block_id, []))
        rows[-1][1].append(prefix)
    return [(first_id, pack_prefixes(prefixes)) for first_id, prefixes in rows]


def _check_damage(error: Exception) -> None:
    """Only damage is mended; a busy or full disk is not."""
    if isinstance(error, sqlite3.Error) and not (is_damage(error) or is_bad_disk(error)):
        raise error

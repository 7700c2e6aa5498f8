"""`kaplad --check`: whether a whole store is sound, while nobody uses it; it changes nothing.

SQLite looks at its structure. Then every block is read and hashed, and must be found by its name;
the totals must agree, and the pins be readable. What pins lack is told, and is no damage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from eris.crypto import reference_of
from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.storage.sqlite.database import check_length, opening
from kapla.storage.sqlite.files import check_kind
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.notes import Note
from kapla.storage.sqlite.recent import unpack_prefixes
from kapla.storage.sqlite.schema import SCHEMA_VERSION, prefix_of

__all__ = ["Report", "check"]

_MOST_FINDINGS: Final = 20
_ROWS: Final = 256
_LARGEST_LOG: Final = 4 * 1024 * 1024
"""Entries of the log that are held in memory; older programs left longer ones than ours."""


@dataclass(slots=True)
class Report:
    """What was found. The store is sound if there are no findings."""

    blocks: dict[int, int] = field(default_factory=lambda: {int(size): 0 for size in BlockSize})
    bad: int = 0
    """Blocks that are not what their references say."""
    unplaced: int = 0
    """Blocks that cannot be found by their references."""
    findings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What is no damage."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def find(self, text: str) -> None:
        """Something is wrong; some of all that is the same kind are enough."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(text)


def check(path: Path) -> Report:
    """Look at all of a store. No daemon may have it open.

    Raises: StorageError, if it is no store, or cannot be read at all.
    """
    check_kind(path)
    if not path.exists():
        raise StorageError(f"there is no store {path}")
    with opening(path):
        check_length(path)
        with closing(_open(path)) as connection:
            return _Check(connection).run()


def _open(path: Path) -> sqlite3.Connection:
    """Reads the WAL too, without a file for its index, and without giving either back.

    Nothing is locked: nobody else has it open.
    """
    name = quote(str(path.absolute()))
    connection = sqlite3.connect(
        f"file:{name}?mode=ro&vfs=unix-none", uri=True, isolation_level=None
    )
    connection.text_factory = bytes
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA temp_store = FILE")
    return connection


class _Check:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._report = Report()
        self._ids = Ids()
        self._is_rebuilding = False
        self._is_index_known = True
        self._recent: set[tuple[int, int]] = set()

    def run(self) -> Report:
        version = self._version()
        for part in (self._structure, self._notes, self._log, self._blocks, self._totals):
            self._try(part)
        if version >= 3:
            self._try(self._pins)
        return self._report

    def _try(self, part: Any) -> None:
        try:
            part()
        except sqlite3.Error as error:
            name = part.__name__.removeprefix("_")
            self._report.find(f"the {name} cannot be read: {error}")

    def _version(self) -> int:
        """The version of the schema. Raises: StorageError."""
        try:
            row = self._connection.execute("SELECT version FROM kapla_schema").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
        version = row[0] if row else None
        if not isinstance(version, int) or version < 1:
            raise StorageError("the database is not a Kapla store")
        if version > SCHEMA_VERSION:
            raise StorageError(f"a newer Kapla wrote it: its schema has version {version}")
        return version

    def _structure(self) -> None:
        rows = self._connection.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})").fetchall()
        for (text,) in rows:
            if text != b"ok":
                self._report.find(f"SQLite: {text.decode('utf-8', 'replace')}")

    def _notes(self) -> None:
        if not self._has_table("upkeep"):
            return
        notes = dict(self._connection.execute("SELECT note, value FROM upkeep").fetchall())
        self._is_rebuilding = Note.REBUILD_BELOW in notes or self._has_table("damaged_places")
        if self._is_rebuilding or {Note.TOTALS_UNKNOWN, Note.REBUILD_WANTED} & notes.keys():
            self._is_rebuilding, self._is_index_known = True, False
            self._report.remarks.append("the index and the totals are being made anew: not checked")

    def _has_table(self, name: str) -> bool:
        rows = self._connection.execute("SELECT name FROM sqlite_master").fetchall()
        return (name.encode(),) in rows

    def _log(self) -> None:
        for first_id, entry in self._connection.execute("SELECT first_id, prefixes FROM recent"):
            try:
                prefixes = unpack_prefixes(entry)
            except StorageError as error:
                self._report.find(str(error))
                continue
            ids = range(first_id, first_id + len(prefixes))
            self._recent.update(zip(prefixes, ids, strict=True))
            if len(self._recent) > _LARGEST_LOG:
                self._is_index_known = False
                self._report.remarks.append("the log of new blocks is long: index not checked")
                return

    def _blocks(self) -> None:
        rows = self._connection.execute("SELECT id, reference, block FROM blocks ORDER BY id")
        while part := rows.fetchmany(_ROWS):
            self._check_rows(part)
        if self._report.bad:
            self._report.find(f"{self._report.bad} blocks are not what their names say")
        if self._report.unplaced:
            self._report.find(
                f"{self._report.unplaced} blocks cannot be found by their names:"
                " kaplad --rebuild-index"
            )

    def _check_rows(self, rows: Sequence[tuple[Any, Any, Any]]) -> None:
        counts = self._report.blocks
        places = []
        for block_id, reference, block in rows:
            is_block = isinstance(block, bytes) and len(block) in counts
            if is_block:
                counts[len(block)] += 1
            if is_block and reference_of(block) == reference:
                places.append((prefix_of(reference), block_id))
            else:
                self._report.bad += 1
        self._ids.add([row[0] for row in rows])
        if self._is_index_known:
            self._report.unplaced += sum(1 for _ in self._unplaced(places))

    def _unplaced(self, places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        # In the order of the index, for neighbours to share pages.
        look = "SELECT 1 FROM places WHERE prefix = ? AND block_id = ?"
        for place in sorted(place for place in places if place not in self._recent):
            if self._connection.execute(look, place).fetchone() is None:
                yield place

    def _totals(self) -> None:
        if self._is_rebuilding:
            return
        rows = dict(self._connection.execute("SELECT block_size, blocks FROM totals").fetchall())
        is_first = not rows and not any(self._report.blocks.values())
        if rows != self._report.blocks and not is_first:
            self._report.find("the totals do not agree with the blocks: kaplad --rebuild-index")

    def _pins(self) -> None:
        lacking = dict(
            self._connection.execute("SELECT pin, count(*) FROM wanted GROUP BY pin").fetchall()
        )
        rows = self._connection.execute(
            "SELECT id, before_small, small, large FROM pins ORDER BY id"
        )
        incomplete = 0
        for pin, before, small, large in rows:
            try:
                ids = Ids.unpack(small) | Ids.unpack(large)
            except StorageError:
                self._report.find(f"the set of blocks of pin {pin} cannot be read")
                continue
            gone = 0 if before is not None else len(ids - self._ids)
            incomplete += bool(gone or lacking.get(pin))
        if incomplete == 1:
            self._report.remarks.append("1 pin lacks some of its blocks")
        elif incomplete:
            self._report.remarks.append(f"{incomplete} pins lack some of their blocks")

"""A new store that is filled with what was found of a damaged one, under the same ids.

The sets of pins keep their meaning so. A block that has no id of its own any more, or one that was
given twice, gets one after the others at the end. The index is made when all is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from eris.model import BlockSize
from kapla.storage.sqlite.care.scan import FoundBlock
from kapla.storage.sqlite.database import open_database
from kapla.storage.sqlite.engine import connect
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.rebuild import write_totals
from kapla.storage.sqlite.schema import LOWEST_ID, prefix_of
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["Fresh"]

# More rows than any store has: what is beyond was read wrong.
_MOST_ROWS: Final = 1 << 40
# Where blocks without ids are put meanwhile.
_STRAYS: Final = 1 << 50
_ROUND: Final = 4 * 1024 * 1024


class Fresh:
    """For one thread. `close` it."""

    def __init__(self, path: Path) -> None:
        """Make the tables in an empty file. Raises: StorageError."""
        settings = SqliteSettings(path)
        open_database(settings)
        self.connection = connect(settings)
        self.connection.execute("PRAGMA synchronous = off")
        self.connection.execute("PRAGMA temp_store = file")
        self.connection.create_function("prefix_of", 1, prefix_of, deterministic=True)
        self.connection.execute(
            "CREATE TEMP TABLE damaged (id INTEGER PRIMARY KEY, reference BLOB NOT NULL)"
        )
        self.ids = {int(size): Ids() for size in BlockSize}
        """The blocks there are, by their size."""
        self._replaced: dict[int, int] = {}
        self._live = Ids()
        self._strays = 0
        self._weight = 0
        self.connection.execute("BEGIN")

    def close(self) -> None:
        """Write all into the one file. Raises: sqlite3.Error."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("COMMIT")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self.connection.close()

    def add(self, found: FoundBlock) -> None:
        """Keep a block, unless it is there; or note that it should be. Raises: sqlite3.Error."""
        row, reference, block, is_live = found
        is_row = row is not None and _is_row(row)
        if block is None:
            if is_row and is_live:
                self.connection.execute(
                    "INSERT OR IGNORE INTO temp.damaged VALUES (?, ?)", (row, reference)
                )
            return
        if row is None or not is_row:
            self._add_stray(reference, block)
            return
        known = self.connection.execute(
            "SELECT reference FROM blocks WHERE id = ?", (row,)
        ).fetchone()
        if known is None:
            self._insert(row, reference, block)
            if is_live:
                self._live.add([row])
        elif known[0] != reference:
            self._add_stray(reference, block)

    def finish(self, pinned: Ids) -> None:
        """Make index and totals; of equal blocks one stays, first of all a pinned one.

        Raises: sqlite3.Error.
        """
        execute = self.connection.execute
        execute("INSERT INTO places SELECT prefix_of(reference), id FROM blocks ORDER BY 1, 2")
        self._drop_equal(pinned)
        self._settle_strays()
        for size, ids in self.ids.items():
            rows = execute("SELECT id FROM blocks WHERE length(block) = ? ORDER BY id", (size,))
            while part := rows.fetchmany(65536):
                ids.add([row for (row,) in part])
        write_totals(self.connection, {size: len(ids) for size, ids in self.ids.items()})
        execute("COMMIT")
        execute("PRAGMA incremental_vacuum").fetchall()
        execute("BEGIN")

    def instead_of(self, block_id: int) -> int | None:
        """The id under which a block is now, that was damaged or more than once under this one."""
        if block_id in self._replaced:
            return self._replaced[block_id]
        if any(block_id in ids for ids in self.ids.values()):
            return block_id
        reference = self.reference_of_damaged(block_id)
        return None if reference is None else self.find(reference)

    def reference_of_damaged(self, block_id: int) -> bytes | None:
        """What a block was called that could not be saved, if that is known."""
        row = self.connection.execute(
            "SELECT reference FROM temp.damaged WHERE id = ?", (block_id,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def find(self, reference: bytes) -> int | None:
        """The id of a block that is there."""
        row = self.connection.execute(
            "SELECT id FROM blocks JOIN places ON id = block_id WHERE prefix = ? AND reference = ?",
            (prefix_of(reference), reference),
        ).fetchone()
        return None if row is None else int(row[0])

    def damaged(self) -> Ids:
        """The ids of the blocks that were known by name and could not be saved."""
        rows = self.connection.execute("SELECT id FROM temp.damaged").fetchall()
        return Ids(i for (i,) in rows if self.instead_of(i) is None)

    def moved(self) -> Ids:
        """The ids for which `instead_of` or `reference_of_damaged` know more."""
        rows = self.connection.execute("SELECT id FROM temp.damaged").fetchall()
        return Ids(i for (i,) in rows) | Ids(self._replaced)

    def _insert(self, row: int, reference: bytes, block: bytes) -> None:
        execute = self.connection.execute
        execute("INSERT INTO blocks VALUES (?, ?, ?)", (row, reference, block))
        self._weight += len(block)
        if self._weight > _ROUND:
            self._weight = 0
            execute("COMMIT")
            execute("BEGIN")

    def _add_stray(self, reference: bytes, block: bytes) -> None:
        self._insert(_STRAYS + self._strays, reference, block)
        self._strays += 1

    def _drop_equal(self, pinned: Ids) -> None:
        execute = self.connection.execute
        prefixes = execute("SELECT prefix FROM places GROUP BY prefix HAVING count(*) > 1")
        for (prefix,) in prefixes.fetchall():
            rows = execute(
                "SELECT reference, id FROM blocks JOIN places ON id = block_id WHERE prefix = ?",
                (prefix,),
            ).fetchall()
            for reference in {row[0] for row in rows}:
                self._drop_all_but_one([row[1] for row in rows if row[0] == reference], pinned)

    def _drop_all_but_one(self, ids: list[int], pinned: Ids) -> None:
        best = max(ids, key=lambda i: (i < _STRAYS, i in pinned, i in self._live, -i))
        for block_id in ids:
            if block_id != best:
                if block_id < _STRAYS:
                    self._replaced[block_id] = best
                self.connection.execute(
                    "DELETE FROM places WHERE block_id = ?1 AND prefix ="
                    " (SELECT prefix_of(reference) FROM blocks WHERE id = ?1)",
                    (block_id,),
                )
                self.connection.execute("DELETE FROM blocks WHERE id = ?", (block_id,))

    def _settle_strays(self) -> None:
        """Give those ids after all others: ids are to be dense."""
        execute = self.connection.execute
        strays = execute("SELECT id FROM blocks WHERE id >= ?", (_STRAYS,)).fetchall()
        (last,) = execute("SELECT max(id) FROM blocks WHERE id < ?", (_STRAYS,)).fetchone()
        for block_id, (stray,) in enumerate(strays, max(last or 0, 0) + 1):
            execute(
                "UPDATE places SET block_id = ?1 WHERE block_id = ?2 AND prefix ="
                " (SELECT prefix_of(reference) FROM blocks WHERE id = ?2)",
                (block_id, stray),
            )
            execute("UPDATE blocks SET id = ? WHERE id = ?", (block_id, stray))


def _is_row(row: int) -> bool:
    return 0 < row < _MOST_ROWS or LOWEST_ID < row < LOWEST_ID + _MOST_ROWS

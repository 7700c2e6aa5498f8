"""One connection to the store, for one thread; finding blocks, and reading them.

What is asked together is looked up with a few queries. If something in there cannot be read, each
block is looked up alone: what cannot be read counts as not there, and spoils nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from eris.model import BlockSize, Reference
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, unreadable
from kapla.storage.sqlite.engine import connect
from kapla.storage.sqlite.neighbours import EVERY, runs_near
from kapla.storage.sqlite.schema import prefix_of, prefixes_of
from kapla.storage.sqlite.state import Database
from kapla.storage.sqlite.statements import IN_SIZES, statements

__all__ = ["Found", "Session", "SqliteReader", "are_blocks", "is_block"]

_BLOCK_SIZES: Final = frozenset(map(int, BlockSize))
# Of so many that are asked for together some are looked up first, to see where they lie.
_MANY: Final = 8 * EVERY


class Found(NamedTuple):
    """Rows of blocks, and the (prefix, id) pairs that lead to a row that cannot be read."""

    rows: list[tuple[Any, ...]]
    bad_places: list[tuple[int, int]]


class Session:
    """One connection, for one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = connect(database.settings)
        self._statements = statements()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for whoever works in this thread."""
        return self._connection

    @property
    def database(self) -> Database:
        """What this session shares with others."""
        return self._database

    def totals(self) -> dict[int, int]:
        """How many blocks of each size there are, as it stands in the file.

        Raises: StoreUnavailable.
        """
        try:
            return dict(self._connection.execute(self._statements.totals).fetchall())
        except sqlite3.Error as error:
            raise unreadable(error) from error

    def database_bytes(self) -> int:
        """The size of the file, without the pages that are free to be used again."""
        page, count, free = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(page * (count - free))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _find(
        self, references: Sequence[Reference], by_id: dict[int, str], by_prefix: dict[int, str]
    ) -> Found:
        """Rows of blocks whose prefix is that of one of `references`: nearly always just those.

        Raises: sqlite3.Error, when nothing can be read now.
        """
        before = self._database.evictions
        found = self._find_now(references, by_id, by_prefix)
        if before % 2 or before != self._database.evictions:
            # Between two looks a block may have gone from its place to a new one.
            known = {row[0] for row in found.rows}
            missing = [name for name in references if name not in known]
            if missing:
                with self._database.keeping.lock:
                    rest = self._find_now(missing, by_id, by_prefix)
                return Found(found.rows + rest.rows, found.bad_places + rest.bad_places)
        return found

    def _find_now(
        self, references: Sequence[Reference], by_id: dict[int, str], by_prefix: dict[int, str]
    ) -> Found:
        before = self._database.rebuilds
        try:
            rows = self._look_up(references, by_id, by_prefix)
        except sqlite3.Error as error:
            # While SQLite writes it takes pages beyond the end for new ones: such a transaction is
            # spoiled, and must be begun anew with what was found before it.
            if self._connection.in_transaction or not (is_damage(error) or is_bad_disk(error)):
                raise
            return self._one_by_one(references, by_id[1])
        if before % 2 or before != self._database.rebuilds:
            known = {row[0] for row in rows}
            missing = [name for name in references if name not in known]
            rest = self._one_by_one(missing, by_id[1])
            return Found(rows + rest.rows, rest.bad_places)
        return Found(rows, [])

    def _look_up(
        self, references: Sequence[Reference], by_id: dict[int, str], by_prefix: dict[int, str]
    ) -> list[tuple[Any, ...]]:
        ids, elsewhere = self._database.recent.find(prefixes_of(references))
        rows = self._among(by_id, ids)
        if ids:
            # What is recent may share its prefix with what is wanted, and not be it.
            found = {row[0] for row in rows}
            elsewhere = prefixes_of([name for name in references if name not in found])
        if elsewhere:
            rows += self._among(by_prefix, elsewhere)
        return rows

    def _among(self, statements: dict[int, str], values: Sequence[int]) -> list[tuple[Any, ...]]:
        """Run a statement over any number of values, in a few fixed sizes."""
        rows: list[tuple[Any, ...]] = []
        execute = self._connection.execute
        largest = IN_SIZES[-1]
        for start in range(0, len(values), largest):
            part = values[start : start + largest]
            size = next(size for size in IN_SIZES if size >= len(part))
            # Filled up with repetitions, which find nothing new: IN is a set.
            part = [*part, *([part[-1]] * (size - len(part)))]
            rows += execute(statements[size], part).fetchall()
        return rows

    def _one_by_one(self, references: Sequence[Reference], by_id: str) -> Found:
        """As `_look_up`, leaving out what cannot be read."""
        found = Found([], [])
        bad_disk: sqlite3.Error | None = None
        for reference in references:
            prefix = prefix_of(reference)
            for block_id in self._ids_of(prefix):
                try:
                    row = self._connection.execute(by_id, (block_id,)).fetchone()
                except sqlite3.Error as error:
                    if is_bad_disk(error):
                        bad_disk = error
                    elif not is_damage(error):
                        raise
                    self._database.tell_damage(error)
                    found.bad_places.append((prefix, block_id))
                    continue
                if row is not None and row[0] == reference:
                    found.rows.append(row)
        if bad_disk is not None and not found.rows:
            # Most likely it is the whole disk that is gone.
            raise bad_disk
        return found

    def _ids_of(self, prefix: int) -> list[int]:
        """The ids under a prefix, wherever they can be read."""
        ids, _ = self._database.recent.find([prefix])
        texts = self._statements
        try:
            ids += self._ids_by(texts.ids_at, prefix)
        except sqlite3.Error as error:
            if is_damage(error):
                self._database.want_rebuild("index", error)
            elif not is_bad_disk(error):
                raise
        if self._database.rebuilds:
            ids += self._ids_in_damaged(prefix)
        return list(dict.fromkeys(ids))

    def _ids_in_damaged(self, prefix: int) -> list[int]:
        try:
            return self._ids_by(self._statements.damaged_ids_at, prefix)
        except sqlite3.Error:
            # Damaged here, or gone since all is in the new index.
            try:
                return self._ids_by(self._statements.ids_at, prefix)
            except sqlite3.Error:
                return []

    def _ids_by(self, statement: str, prefix: int) -> list[int]:
        rows = self._connection.execute(statement, (prefix,)).fetchall()
        return [block_id for (block_id,) in rows if isinstance(block_id, int)]


class SqliteReader(Session):
    """Reads blocks."""

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there, by reference.

        Raises: StoreUnavailable.
        """
        texts = self._statements
        reads = self._database.keeping.reads
        try:
            if reads is None:
                found = self._find(references, texts.block_by_id, texts.block_by_prefix)
            else:
                found = self._find(references, texts.kept_by_id, texts.kept_by_prefix)
                reads.add([row[2] for row in found.rows])
                found = Found([row[:2] for row in found.rows], found.bad_places)
        except sqlite3.Error as error:
            raise unreadable(error) from error
        blocks: dict[Reference, bytes] = dict(found.rows)
        return blocks if are_blocks(blocks) else _sound(found)

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there.

        Raises: StoreUnavailable.
        """
        texts = self._statements
        reads = self._database.keeping.reads
        try:
            if reads is None:
                found = self._find(references, texts.name_by_id, texts.name_by_prefix)
            else:
                found = self._find(references, texts.named_by_id, texts.named_by_prefix)
                reads.add([row[1] for row in found.rows])
        except sqlite3.Error as error:
            raise unreadable(error) from error
        return {row[0] for row in found.rows}.intersection(references)

    def hold_many(
        self, references: Sequence[Reference], hold: Callable[[list[tuple[int, int]]], None]
    ) -> set[Reference]:
        """As `find_many`; what is there is given to `hold`, as (id, size), before it can go.

        Raises: StoreUnavailable; what `hold` raises.
        """
        texts, names = self._statements, set(references)
        with self._database.keeping.lock:
            try:
                places = _places(self._neighbours(references), names)
                rest = names.difference(places) if places else references
                if rest:
                    found = self._find(list(rest), texts.sized_by_id, texts.sized_by_prefix)
                    places |= _places(found.rows, names)
            except sqlite3.Error as error:
                raise unreadable(error) from error
            hold(list(places.values()))
        return set(places)

    def _neighbours(self, references: Sequence[Reference]) -> list[tuple[Any, ...]]:
        """Sized rows of what most likely are many of these blocks, and of others between them.

        Raises: sqlite3.Error, when nothing can be read now.
        """
        database = self._database
        if len(references) < _MANY or not database.is_placed or database.is_rebuild_wanted:
            return []
        rows: list[tuple[Any, ...]] = []
        try:
            prefixes = prefixes_of(references[::EVERY])
            ids, elsewhere = database.recent.find(prefixes)
            places = self._among(self._statements.places_by_prefix, elsewhere)
            for run in runs_near([*ids, *(block_id for _, block_id in places)]):
                rows += self._connection.execute(self._statements.sized_between, run).fetchall()
        except sqlite3.Error as error:
            if self._connection.in_transaction or not (is_damage(error) or is_bad_disk(error)):
                raise
            # Each is looked up on its own then, and what is damaged may be somebody else's.
        return rows


def _places(
    rows: Sequence[tuple[Any, ...]], names: set[Reference]
) -> dict[Reference, tuple[int, int]]:
    """Sized rows as (id, size) by name, without what is not wanted, or can be no block."""
    return {
        name: (block_id, size)
        for name, block_id, size in rows
        if name in names and size in _BLOCK_SIZES
    }


def _sound(found: Found) -> dict[Reference, bytes]:
    """Only what can be a block: several rows may have one name, and one of them be damaged."""
    return dict(row for row in found.rows if is_block(row[1]))


def is_block(value: object) -> bool:
    """Whether this can be a block: damage may have made anything of it."""
    return isinstance(value, bytes) and len(value) in _BLOCK_SIZES


def are_blocks(blocks: dict[Reference, bytes]) -> bool:
    """Whether all of these can be blocks."""
    try:
        return set(map(len, blocks.values())) <= _BLOCK_SIZES
    except TypeError:  # damage made a number of it
        return False

"""Reading for those to whom only what is lent is there.

What is not lent must not be told from what is not there, not even by how long the answer takes. So
references are looked up in the index alone; the row of a block is touched only if it is lent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from eris.model import Reference
from kapla.storage.damage import is_bad_disk, is_damage, unreadable
from kapla.storage.schema import prefix_of
from kapla.storage.session import SqliteReader, are_blocks, is_block

__all__ = ["Lent", "LentReader", "apart", "lent_blocks", "lent_names"]


class Lent(tuple[Reference, ...]):
    """References that are asked for by somebody to whom only lent blocks are there."""

    __slots__ = ()


class LentReader(SqliteReader):
    """Reads blocks: all of them, or only what is lent."""

    def get_lent(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there and lent, by reference.

        Raises: StoreUnavailable.
        """
        rows = self._lent_rows(references, self._statements.kept_by_id)
        blocks: dict[Reference, bytes] = {row[0]: row[1] for row in rows}
        if are_blocks(blocks):
            return blocks
        return {row[0]: row[1] for row in rows if is_block(row[1])}

    def find_lent(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there and lent.

        Raises: StoreUnavailable.
        """
        rows = self._lent_rows(references, self._statements.name_and_id_by_id)
        return {row[0] for row in rows}.intersection(references)

    def _lent_rows(
        self, references: Sequence[Reference], by_id: dict[int, str]
    ) -> list[tuple[Any, ...]]:
        """Rows that end in an id, of lent blocks that may be those."""
        before = self._database.rebuilds
        lent = self._database.keeping.lent
        if not lent:
            return []
        try:
            ids = self._ids_among(list(map(prefix_of, references)))
            rows = self._among(by_id, [block_id for block_id in ids if block_id in lent])
            is_sure = before == self._database.rebuilds and not self._database.is_rebuilding
        except sqlite3.Error as error:
            if not (is_damage(error) or is_bad_disk(error)):
                raise unreadable(error) from error
            is_sure = False
        if not is_sure:
            rows = self._lent_in_damaged(references, by_id[1])
        lent_rows = [row for row in rows if row[-1] in lent]
        reads = self._database.keeping.reads
        if reads is not None:
            reads.add(row[-1] for row in lent_rows)
        return lent_rows

    def _ids_among(self, prefixes: Sequence[int]) -> list[int]:
        # All are looked up on the disk, also what is in memory: it takes as long for each.
        ids, _ = self._database.recent.find(prefixes)
        found = self._among(self._statements.ids_by_prefix, prefixes)
        return ids + [block_id for (block_id,) in found]

    def _lent_in_damaged(
        self, references: Sequence[Reference], by_id: str
    ) -> list[tuple[Any, ...]]:
        try:
            return self._one_by_one(references, by_id).rows
        except sqlite3.Error as error:
            raise unreadable(error) from error


_Batch = list[Sequence[Reference]]


def apart(
    others: Callable[[_Batch], list[object]],
    lent: Callable[[_Batch], list[object]],
    then: Callable[[], None],
) -> Callable[[_Batch], list[object]]:
    """A round that does what is asked for lent blocks by `lent`, and all else by `others`.

    `then` is called after the former, as the latter do it themselves.
    """

    def work(batch: _Batch) -> list[object]:
        are_lent = [isinstance(part, Lent) for part in batch]
        if not any(are_lent):
            return others(batch)
        theirs = [part for part, is_lent in zip(batch, are_lent, strict=True) if not is_lent]
        of_others = iter(others(theirs) if theirs else ())
        of_lent = iter(lent([part for part in batch if isinstance(part, Lent)]))
        then()
        return [next(of_lent if is_lent else of_others) for is_lent in are_lent]

    return work


def lent_blocks(reader: LentReader | None, batch: _Batch) -> list[object]:
    """For each part the lent blocks, None for each that is not there or not lent."""
    assert reader is not None
    found = reader.get_lent([name for part in batch for name in part])
    return [list(map(found.get, part)) for part in batch]


def lent_names(reader: LentReader | None, batch: _Batch) -> list[object]:
    """For each part, which of the blocks are there and lent."""
    assert reader is not None
    found = reader.find_lent([name for part in batch for name in part])
    return [[name in found for name in part] for part in batch]

"""Reading for those to whom only what is lent is there.

What is not lent must not be told from what is not there, not even by how long the answer takes. So
references are looked up in the index alone; the row of a block is touched only if it is lent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from eris.model import Reference
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, unreadable
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.schema import prefixes_of
from kapla.storage.sqlite.session import Found, SqliteReader, are_blocks, is_block

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
        texts = self._statements
        rows = self._lent_rows(references, texts.kept_by_id, texts.kept_by_prefix)
        blocks: dict[Reference, bytes] = {row[0]: row[1] for row in rows}
        if are_blocks(blocks):
            return blocks
        return {row[0]: row[1] for row in rows if is_block(row[1])}

    def find_lent(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which of these blocks are there and lent.

        Raises: StoreUnavailable.
        """
        texts = self._statements
        rows = self._lent_rows(references, texts.named_by_id, texts.named_by_prefix)
        return {row[0] for row in rows}.intersection(references)

    def _lent_rows(
        self, references: Sequence[Reference], by_id: dict[int, str], by_prefix: dict[int, str]
    ) -> list[tuple[Any, ...]]:
        """Rows that end in an id, of lent blocks that may be those."""
        lent = self._database.keeping.lent
        if not lent:
            return []
        try:
            wanted = self._that_lead_to(lent, references)
            found = self._find(wanted, by_id, by_prefix) if wanted else Found([], [])
        except sqlite3.Error as error:
            raise unreadable(error) from error
        # Looked up anew: what makes room for others may have moved what is lent and not kept.
        lent = self._database.keeping.lent
        rows = [row for row in found.rows if row[-1] in lent]
        reads = self._database.keeping.reads
        if reads is not None:
            reads.add([row[-1] for row in rows])
        return rows

    def _that_lead_to(self, lent: Ids, references: Sequence[Reference]) -> Sequence[Reference]:
        """Those whose place leads to something lent; all, where the index does not tell."""
        prefixes = prefixes_of(references)
        recent = self._database.recent
        before = self._database.rebuilds, self._database.evictions
        # All are looked up in both places, so that it takes as long for each.
        leading = {
            prefix
            for prefix in prefixes
            if any(block_id in lent for block_id in recent.find((prefix,))[0])
        }
        try:
            places = self._among(self._statements.places_by_prefix, prefixes)
        except sqlite3.Error as error:
            if is_damage(error) or is_bad_disk(error):
                return references
            raise
        after = self._database.rebuilds, self._database.evictions
        if before != after or any(count % 2 for count in after):
            # What is under way, of rebuilding or of eviction, moves places.
            return references
        leading.update(prefix for prefix, block_id in places if block_id in lent)
        return [
            name for name, prefix in zip(references, prefixes, strict=True) if prefix in leading
        ]


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

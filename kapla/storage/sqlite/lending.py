"""Reading for those to whom only what is lent is there.

What is not lent must not be told from what is not there, not even by how long the answer takes. So
references are looked up in the index alone; the row of a block is touched only if it is lent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from eris.model import Reference
from kapla.storage.sqlite.damage import is_bad_disk, is_damage, unreadable
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.schema import prefixes_of
from kapla.storage.sqlite.session import Found, SqliteReader, are_blocks, is_block

__all__ = ["LentReader"]


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

"""What the database of a store says of its items: that of Guix, and that of Nix.

Both stem from one program, and differ in the number of their schema and in what Nix has besides:
signatures, and what a path is called by its content. How the file is read without writing beside it
is in `foreign_database.py`. Plain synchronous code, for a worker thread.

Source: guix.md, section 8; for Nix its `schema.sql` of version 2.8.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from guix_glue.errors import DatabaseError, ProtocolError
from guix_glue.formats.store_path import is_hash_part, is_store_path
from guix_glue.local.foreign_database import BUSY_TIMEOUT_S, ForeignDatabase
from guix_glue.local.item_facts import checked_item, parse_database_hash
from guix_glue.model import StoreItem

__all__ = ["GUIX_LAYOUT", "NIX_LAYOUT", "Layout", "ListedItem", "StoreDatabase"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """What tells one database from another: `schema`, the number in the file of that name.

    `extra` are two columns: signatures, separated by blanks, and the content address.
    """

    schema: bytes
    extra: str


GUIX_LAYOUT: Final = Layout(b"7", "NULL, NULL")
NIX_LAYOUT: Final = Layout(b"10", "sigs, ca")
"""Since Nix 2.0."""

# The largest profiles have some thousands.
_MAX_REFERENCES: Final = 100_000

_FIND_ITEM: Final = """
    SELECT id, path, hash, narSize, deriver, {extra} FROM ValidPaths WHERE path >= ?
    ORDER BY path LIMIT 1
"""
_FIND_REFERENCES: Final = """
    SELECT path FROM Refs JOIN ValidPaths ON ValidPaths.id = Refs.reference
    WHERE Refs.referrer = ? ORDER BY path LIMIT ?
"""
_ALL_ITEMS: Final = "SELECT path, narSize FROM ValidPaths ORDER BY path"
_IS_VALID: Final = "SELECT EXISTS (SELECT 1 FROM ValidPaths WHERE path = ?)"


class ListedItem(NamedTuple):
    """A valid item: its whole path, and bytes of its nar; 0 if the database does not say."""

    path: str
    nar_size: int


class StoreDatabase:
    """The database in `database_dir`, usually `/var/guix/db`, of the store at `store_dir`.

    One that is locked is waited for, for `busy_timeout_s` at most.
    """

    def __init__(
        self,
        database_dir: str,
        store_dir: str,
        layout: Layout = GUIX_LAYOUT,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._schema_file = os.path.join(database_dir, "schema")
        file = os.path.join(database_dir, "db.sqlite")
        self._database = ForeignDatabase(file, busy_timeout_s=busy_timeout_s)
        self._store_dir = store_dir
        self._layout = layout
        self._find_item = _FIND_ITEM.format(extra=layout.extra)

    def find(self, hash_part: str) -> StoreItem | None:
        """The valid item with this hash part, if there is one.

        Raises: DatabaseError; ProtocolError, if what is said of the item makes no sense.
        """
        if not is_hash_part(hash_part):
            return None
        self._check_schema()
        return self._database.look_up(lambda database: self._find(database, hash_part))

    def valid(self, path: str) -> bool:
        """Whether the item at the full path is valid. Raises: DatabaseError."""
        if not is_store_path(path, self._store_dir):
            return False
        self._check_schema()
        return self._database.look_up(lambda database: _is_valid(database, path))

    def items(self) -> Sequence[ListedItem]:
        """All valid items, in the order of their paths; what has no path of an item is left out.

        Raises: DatabaseError.
        """
        self._check_schema()
        rows = self._database.look_up(lambda database: database.execute(_ALL_ITEMS).fetchall())
        return [
            ListedItem(path, size if isinstance(size, int) and size > 0 else 0)
            for path, size in rows
            if isinstance(path, str) and is_store_path(path, self._store_dir)
        ]

    def stamp(self) -> object:
        """Is another when something was written, as far as the files tell."""
        return self._database.stamp()

    def query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on one state of the database. Raises: DatabaseError; what it raises."""
        self._check_schema()
        return self._database.look_up(query)

    def _find(self, database: sqlite3.Connection, hash_part: str) -> StoreItem | None:
        prefix = f"{self._store_dir}/{hash_part}"
        row = database.execute(self._find_item, (prefix,)).fetchone()
        if row is None:
            return None
        number, path, nar_hash, nar_size, deriver, signatures, content_address = row
        if not isinstance(path, str) or not path.startswith(prefix):
            return None
        found = database.execute(_FIND_REFERENCES, (number, _MAX_REFERENCES + 1))
        references = [reference for (reference,) in found]
        if len(references) > _MAX_REFERENCES:
            raise ProtocolError(f"{path} has more than {_MAX_REFERENCES} references")
        return checked_item(
            self._store_dir,
            path,
            nar_hash=parse_database_hash(nar_hash),
            nar_size=nar_size,
            references=references,
            deriver=deriver,
            content_address=content_address,
            signatures=signatures,
        )

    def _check_schema(self) -> None:
        try:
            with open(self._schema_file, "rb") as file:
                number = file.read(32).strip()
        except OSError as error:
            raise DatabaseError(f"cannot read {self._schema_file}: {error.strerror}") from error
        if number != self._layout.schema:
            raise DatabaseError(
                f"{self._schema_file} says that the database is of schema {number!r};"
                f" {self._layout.schema!r} is known"
            )


def _is_valid(database: sqlite3.Connection, path: str) -> bool:
    return bool(database.execute(_IS_VALID, (path,)).fetchone()[0])

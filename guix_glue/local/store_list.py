"""All valid items of a store, as its database has them, in one go.

The databases of Guix and of Nix stem from one program. That of Nix has columns besides: whether an
item is `ultimate`, which is to say built here, and the signatures that came with it. Guix's tells
neither: see `guix_glue/seed/consent.py` for what is made of that.

Plain synchronous code, for a worker thread.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from guix_glue.errors import GuixError, ProtocolError
from guix_glue.formats.store_path import check_base_name, is_store_path
from guix_glue.local.item_facts import parse_database_hash
from guix_glue.local.store_db import StoreDatabase

__all__ = ["ValidItem", "list_items"]

_log = logging.getLogger(__name__)

MOST_ITEMS: Final = 2_000_000
"""A machine that builds a whole distribution has some hundred thousand."""

_ALL_ITEMS: Final = "SELECT * FROM ValidPaths ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class ValidItem:
    """An item: its base name, its nar's SHA-256 (32 bytes) and size, what it was made by.

    `is_built_here` is None where the database does not tell. `is_signed`: others have signed it.
    """

    base_name: str
    nar_hash: bytes
    nar_size: int
    deriver: str | None
    is_built_here: bool | None = None
    is_signed: bool | None = None

    @property
    def hash_part(self) -> str:
        """The 32 characters by which servers know it."""
        return self.base_name[:32]

    @property
    def name(self) -> str:
        """What stands behind the hash part."""
        return self.base_name[33:]


def list_items(database: StoreDatabase, store_dir: str) -> list[ValidItem]:
    """The items of the store at `store_dir`; those that make no sense are left out.

    Raises: DatabaseError; ProtocolError, if there are more than two million.
    """
    return database.query(lambda opened: list(_items(opened, store_dir)))


def _items(database: sqlite3.Connection, store_dir: str) -> Iterator[ValidItem]:
    found = database.execute(_ALL_ITEMS, (MOST_ITEMS + 1,))
    columns = [column[0] for column in found.description]
    for number, values in enumerate(found):
        if number >= MOST_ITEMS:
            raise ProtocolError(f"the store has more than {MOST_ITEMS} items")
        try:
            item = _item(dict(zip(columns, values, strict=True)), store_dir)
        except GuixError as error:
            _log.debug("An item is left out: %s", error)
            continue
        if item is not None:
            yield item


def _item(row: dict[str, Any], store_dir: str) -> ValidItem | None:
    path, size, deriver = row.get("path"), row.get("narSize"), row.get("deriver")
    if not isinstance(path, str) or not is_store_path(path, store_dir):
        return None
    if not isinstance(size, int) or size <= 0:
        return None
    return ValidItem(
        path.rpartition("/")[2],
        parse_database_hash(row.get("hash")),
        size,
        check_base_name(deriver.rpartition("/")[2]) if isinstance(deriver, str) else None,
        bool(row["ultimate"]) if "ultimate" in row else None,
        bool(row["sigs"]) if "sigs" in row else None,
    )

"""The catalogue itself: noting what was stored, finding it, and letting go of it.

Every call is one short transaction, so that many processes can use the file at a time, and one that
is killed leaves nothing half-done. Versions of a name are its entries, newest first.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kapla.catalogue.entries import COLUMNS, Entry, checksum_of, entry_of
from kapla.catalogue.errors import CatalogueDamaged, CatalogueError
from kapla.catalogue.file import make_file, open_file, set_aside, translated
from kapla.errors import InvalidUrl
from kapla.urls import FileEndpoint, UnixEndpoint, parse_store_url

__all__ = ["DEFAULT_KEEP", "Catalogue", "note"]

DEFAULT_KEEP: Final = 3
"""Versions of a name."""

_PAGE: Final = 256
_RANK: Final = "(SELECT COUNT(*) FROM entries newer WHERE newer.name = e.name AND newer.id > e.id)"


def note(path: Path, entry: Entry) -> Path | None:
    """Note what was stored in the catalogue at a path, which is made if there is none.

    One that is damaged is set aside, and what can be read of it taken over. Returns its new name.
    Raises: CatalogueError.
    """
    try:
        with Catalogue.open_or_make(path) as catalogue:
            catalogue.note(entry)
            return None
    except CatalogueDamaged:
        aside = set_aside(path)
    with Catalogue.open_or_make(path) as catalogue:
        if aside is not None:
            catalogue.take_over(aside)
        catalogue.note(entry)
    return aside


class Catalogue:
    """An open catalogue. Its methods raise CatalogueDamaged and CatalogueUnusable."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the one that there is.

        Raises: FileNotFoundError; CatalogueDamaged; CatalogueUnusable.
        """
        return cls(path, open_file(path))

    @classmethod
    def open_or_make(cls, path: Path) -> Self:
        """Open it, or make an empty one.

        Raises: CatalogueDamaged; CatalogueUnusable.
        """
        with contextlib.suppress(FileNotFoundError):
            return cls.open(path)
        make_file(path)
        return cls.open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def note(self, entry: Entry) -> None:
        """Note that something was stored just now.

        What is the newest of its name, or has no name, and was noted before gets a new time only.
        """
        with self._writing() as connection:
            known = self._known(entry)
            if known is not None:
                connection.execute(
                    "UPDATE entries SET stored = ?, source = ?, keep = ?, kind = ? WHERE id = ?",
                    (int(time.time()), entry.source, _keep(entry, known), entry.kind, known.id),
                )
                return
            newest = None if entry.name is None else self.find(entry.name)
            self._insert(replace(entry, stored=int(time.time()), keep=_keep(entry, newest)))

    def find(self, name: str, version: int = 0) -> Entry | None:
        """The version of a name, counted from the newest, which is 0."""
        found = self._select("WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?", (name, version))
        return found[0] if found else None

    def versions(self, name: str) -> list[Entry]:
        """All that is noted under a name, newest first."""
        return self._select("WHERE name = ? ORDER BY id DESC", (name,))

    def surplus(self, name: str) -> list[Entry]:
        """The versions of a name beyond those to be kept, oldest first."""
        versions = self.versions(name)
        keep = (versions[0].keep if versions else None) or DEFAULT_KEEP
        return versions[keep:][::-1]

    def with_urn(self, urn: str, root: bytes) -> list[Entry]:
        """All entries of a URN, whose root this is."""
        return self._select("WHERE root = ? AND urn = ? ORDER BY id", (root, urn))

    def with_root(self, root: bytes) -> list[Entry]:
        """All entries of a root, newest first."""
        return self._select("WHERE root = ? ORDER BY id DESC", (root,))

    def remove(self, entry: Entry) -> None:
        """Let go of an entry."""
        with self._writing() as connection:
            connection.execute("DELETE FROM entries WHERE id = ?", (entry.id,))

    def remove_if_shared(self, entry: Entry) -> bool:
        """Let go of an entry if another stands for blocks of the same root in the same store.

        In one transaction: of two that go at once one is the last, and knows it.
        """
        with self._writing() as connection:
            others = self._select("WHERE root = ? AND id <> ?", (entry.root, entry.id))
            place = _place(entry.store)
            if not any(_place(other.store) == place for other in others):
                return False
            connection.execute("DELETE FROM entries WHERE id = ?", (entry.id,))
            return True

    def names(self) -> list[str]:
        """All names, for saying which one may be meant."""
        with translated(self._path):
            rows = self._connection.execute(
                "SELECT DISTINCT name FROM entries WHERE name IS NOT NULL LIMIT 10000"
            ).fetchall()
        return [name for (name,) in rows if isinstance(name, str)]

    def newest_first(self) -> Iterator[Entry]:
        """All entries as they are at the start, page by page: whoever reads slowly holds nobody up.

        What is removed meanwhile is left out.
        """
        with translated(self._path):
            rows = self._connection.execute("SELECT id FROM entries ORDER BY stored DESC, id DESC")
            numbers = array("q", (number for (number,) in rows))
        for start in range(0, len(numbers), _PAGE):
            yield from self._page(numbers[start : start + _PAGE])

    def take_over(self, aside: Path) -> None:
        """Copy what can be read of a damaged catalogue, in its order."""
        rescued = {entry.id: entry for entry in _readable(aside) if entry.is_sound}
        with self._writing():
            for _, entry in sorted(rescued.items()):
                self._insert(entry)

    def _page(self, numbers: array[int]) -> list[Entry]:
        places = ",".join("?" * len(numbers))
        page = self._select(f"WHERE id IN ({places})", tuple(numbers))
        found = {entry.id: entry for entry in page}
        return [found[number] for number in numbers if number in found]

    def _known(self, entry: Entry) -> Entry | None:
        """What an entry would only repeat."""
        if entry.name is None:
            same = self._select(
                "WHERE root = ? AND urn = ? AND name IS NULL", (entry.root, entry.urn)
            )
            return next((one for one in same if one.store == entry.store and one.is_sound), None)
        newest = self.find(entry.name)
        if newest is None or not newest.is_sound:
            return None
        return newest if (newest.urn, newest.store) == (entry.urn, entry.store) else None

    def _select(self, where: str, values: tuple[object, ...]) -> list[Entry]:
        with translated(self._path):
            query = f"SELECT {COLUMNS}, {_RANK} FROM entries e {where}"
            rows = self._connection.execute(query, values).fetchall()
        return [entry_of(row[:-1], row[-1]) for row in rows]

    def _insert(self, entry: Entry) -> None:
        places = ",".join("?" * (len(COLUMNS.split(",")) - 1))
        self._connection.execute(
            f"INSERT INTO entries ({COLUMNS.removeprefix('id, ')}) VALUES ({places})",
            (
                entry.name,
                entry.stored,
                entry.urn,
                entry.root,
                entry.store,
                entry.source,
                entry.kind,
                entry.size,
                entry.blocks,
                entry.keep,
                checksum_of(entry),
            ),
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has rolled it back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _readable(path: Path) -> Iterator[Entry]:
    """Entries of a damaged file, from both ends up to where it cannot be read."""
    for direction in ("ASC", "DESC"):
        query = f"SELECT {COLUMNS} FROM entries NOT INDEXED ORDER BY id {direction}"
        with contextlib.suppress(CatalogueError, FileNotFoundError):
            yield from _rows(path, query)


def _rows(path: Path, query: str) -> Iterator[Entry]:
    with translated(path), contextlib.closing(open_file(path)) as connection:
        yield from map(entry_of, connection.execute(query))


def _keep(entry: Entry, before: Entry | None) -> int | None:
    """How many versions to keep: as is said now, else as was said before."""
    if entry.name is None:
        return None
    return entry.keep or (before.keep if before is not None else None) or DEFAULT_KEEP


def _place(store: str) -> str:
    """A store as it can be compared: one socket may have two paths."""
    try:
        url = parse_store_url(store)
    except InvalidUrl:
        return store
    if not isinstance(url.endpoint, UnixEndpoint | FileEndpoint):
        return store
    return "\0".join([os.path.realpath(url.endpoint.path), *url.store_path])

"""The catalogue's file: opening, making, and setting aside one that is damaged.

A plain SQLite file without WAL, whose locks also work in a home on a network file system, and which
can be read where nothing may be written. It is made under another name and put in place with its
tables, so that a file without them is one that was damaged. What SQLite says of a file is sorted
into two: it cannot be used now (`CatalogueUnusable`), or it is damaged (`CatalogueDamaged`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kapla.catalogue.errors import CatalogueDamaged, CatalogueError, CatalogueUnusable
from kapla.catalogue.place import check_directory, check_file, make_directory, only_one, unusable

__all__ = ["make_file", "open_file", "set_aside", "translated"]

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x6B63_6174  # "kcat"
_TABLES: Final = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT,                  -- NULL: none
    stored INTEGER NOT NULL,    -- seconds since 1970
    urn TEXT NOT NULL,
    root BLOB NOT NULL,         -- the reference that the URN begins with
    store TEXT NOT NULL,        -- its URL, path and all
    source TEXT NOT NULL,       -- what was encoded: a path, or - for standard input
    kind TEXT NOT NULL,
    size INTEGER NOT NULL,      -- bytes of content
    blocks INTEGER,             -- NULL: not counted
    keep INTEGER,               -- versions of this name to keep; NULL where there is no name
    checksum BLOB NOT NULL
);
CREATE INDEX entries_by_name ON entries (name, id);
CREATE INDEX entries_by_root ON entries (root);
CREATE INDEX entries_by_time ON entries (stored, id);
"""
_BUSY_S: Final = 10.0
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_WORDS: Final = {
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it cannot be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say in our words what SQLite says of this file.

    Raises: CatalogueDamaged, CatalogueUnusable.
    """
    try:
        yield
    except sqlite3.Error as error:
        # Python itself raises without a code: for text that is not UTF-8, say.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _DAMAGED:
            raise CatalogueDamaged(f"{path} is damaged: {error}") from error
        raise CatalogueUnusable(f"{path}: {_WORDS.get(code) or error}") from error


def open_file(path: Path) -> sqlite3.Connection:
    """Open the catalogue.

    Raises: FileNotFoundError, CatalogueDamaged, CatalogueUnusable.
    """
    check_directory(path.parent)
    check_file(path)
    with translated(path):
        connection = _connect(path)
        try:
            _check_version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def make_file(path: Path) -> None:
    """Put an empty catalogue in place, unless there is one.

    Raises: CatalogueUnusable.
    """
    make_directory(path.parent)
    check_directory(path.parent)
    with only_one(path.parent), translated(path):
        if os.path.lexists(path):
            return
        try:
            _make(path)
        except OSError as error:
            raise unusable(path, error) from error


def _make(path: Path) -> None:
    made = path.with_name(path.name + ".new")
    for left in (made, _journal(made)):
        left.unlink(missing_ok=True)
    # It would be played back into the new file.
    _move_aside([_journal(path)])
    try:
        os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(_connect(made)) as connection:
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {_APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        made.rename(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def set_aside(path: Path) -> Path | None:
    """Give a damaged catalogue another name, beside it; None if it is no longer damaged.

    Raises: CatalogueUnusable.
    """
    with only_one(path.parent):
        try:
            open_file(path).close()
        except CatalogueDamaged:
            pass
        except (FileNotFoundError, CatalogueError):
            return None
        else:
            if _is_sound(path):
                return None
        try:
            return _move_aside([path, _journal(path)])
        except OSError as error:
            raise unusable(path, error) from error


def _is_sound(path: Path) -> bool:
    try:
        with translated(path), contextlib.closing(_connect(path)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except CatalogueError:
        return False


def _move_aside(files: list[Path]) -> Path | None:
    when = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    moved = None
    for file in files:
        if not os.path.lexists(file):
            continue
        kept = file.with_name(f"{file.name}.damaged-{when}")
        number = 0
        while os.path.lexists(kept):
            number += 1
            kept = file.with_name(f"{file.name}.damaged-{when}-{number}")
        file.rename(kept)
        moved = moved or kept
    return moved


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _connect(path: Path) -> sqlite3.Connection:
    # Where the file cannot be written to, SQLite opens it for reading.
    url = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(url, uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        # What is forgotten is overwritten.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise CatalogueDamaged(f"{path} is no catalogue")
    if version > SCHEMA_VERSION:
        raise CatalogueUnusable(f"{path} was made by a newer Kapla")
    if version != SCHEMA_VERSION:
        raise CatalogueDamaged(f"{path} has a version that never was")

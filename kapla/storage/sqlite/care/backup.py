"""A copy of a store, pins included, while a daemon uses it: one moment of it, by SQLite itself.

The file is read beside the daemon. What is written meanwhile is not in the copy, and stays in the
WAL until the copy is done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kapla.errors import StorageError
from kapla.storage.sqlite.care.placing import placing

__all__ = ["BackupEnded", "back_up"]

_PAGES: Final = 64
_BUSY_S: Final = 10.0


class BackupEnded(Exception):
    """It was to go on no further."""


def back_up(
    database: Path, copy: Path, tell: Callable[[int, int], bool] = lambda done, of: True
) -> int:
    """Copy a store to a new file (0600); returns its bytes.

    `tell` gets the bytes that are copied and all there are; when it returns false, it ends.
    Raises: StorageError, BackupEnded; then there is no copy.
    """
    with placing(copy) as partial:
        try:
            with closing(_open(database)) as source, closing(_new(partial)) as target:
                return _copy(source, target, tell)
        except sqlite3.Error as error:
            raise StorageError(f"cannot copy the store {database}: {error}") from error


def _open(database: Path) -> sqlite3.Connection:
    name = quote(str(database))
    return sqlite3.connect(f"file:{name}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S)


def _new(partial: Path) -> sqlite3.Connection:
    target = sqlite3.connect(partial, isolation_level=None)
    # It is not there before it is whole, and is waited for then.
    target.execute("PRAGMA journal_mode = OFF")
    target.execute("PRAGMA synchronous = OFF")
    return target


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, tell: Callable[[int, int], bool]
) -> int:
    # From here on this connection sees the same moment: else each write would begin it anew.
    source.execute("BEGIN")
    if source.execute("SELECT version FROM kapla_schema").fetchone() is None:
        raise StorageError("the database is not a Kapla store")
    (size,) = source.execute("PRAGMA page_size").fetchone()

    def progress(status: int, remaining: int, total: int) -> None:
        if not tell((total - remaining) * size, total * size):
            raise BackupEnded

    source.backup(target, pages=_PAGES, progress=progress)
    (pages,) = target.execute("PRAGMA page_count").fetchone()
    return int(pages * size)

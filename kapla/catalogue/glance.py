"""What the catalogue has, at a glance: for completion, and for who only looks in.

Nothing is made, mended or waited for, and no mode is changed: of a catalogue that cannot be read at
once, or that others could have written, nothing is told.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from kapla.catalogue.entries import COLUMNS, Entry, entry_of
from kapla.catalogue.errors import CatalogueError
from kapla.catalogue.place import default_path

__all__ = ["MOST_NAMES", "Named", "glance_at_names", "glance_at_versions"]

MOST_NAMES: Final = 500
"""More than anybody reads."""
_MOST_VERSIONS: Final = 100
# Whoever waits for a prompt does not wait for another program's lock.
_WAIT_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Named:
    """A name, as it was stored last."""

    name: str
    kind: str
    """`file` or `tree`."""
    size: int
    """Bytes of content."""
    stored: int
    """Seconds since 1970."""
    versions: int
    source: str = field(default="", repr=False)


def glance_at_names(prefix: str = "", *, limit: int = MOST_NAMES) -> list[Named]:
    """Names that begin so, those that were stored last first."""
    query = (
        "SELECT name, kind, size, stored, count(*), source, max(id) FROM entries"
        " WHERE name IS NOT NULL AND substr(name, 1, ?) = ?"
        " GROUP BY name ORDER BY max(id) DESC LIMIT ?"
    )
    found = []
    for name, kind, size, stored, count, source, _ in _rows(query, (len(prefix), prefix, limit)):
        if isinstance(name, str) and isinstance(size, int) and isinstance(stored, int):
            found.append(Named(name, str(kind), size, stored, int(str(count)), str(source)))
    return found


def glance_at_versions(name: str) -> list[Entry]:
    """The versions of a name, newest first, but for those that are damaged."""
    query = f"SELECT {COLUMNS} FROM entries WHERE name = ? ORDER BY id DESC LIMIT ?"
    rows = _rows(query, (name, _MOST_VERSIONS))
    entries = [entry_of(row, number) for number, row in enumerate(rows)]
    return [entry for entry in entries if entry.is_sound]


def _rows(query: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
    with contextlib.suppress(CatalogueError, OSError, sqlite3.Error, ValueError):
        path = default_path()
        if _is_ours(path):
            with _opened(path) as connection:
                return connection.execute(query, values).fetchall()
    return []


def _is_ours(path: Path) -> bool:
    """Whether it is a file that nobody else could have put there."""
    for one, is_right in ((path.parent, stat.S_ISDIR), (path, stat.S_ISREG)):
        found = os.lstat(one)
        if not is_right(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    url = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(url, uri=True, timeout=_WAIT_S, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection

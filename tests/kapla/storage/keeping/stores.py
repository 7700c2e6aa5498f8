"""Stores with a cap to test with, and what may be asked of each of them at any time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from eris import Reference
from kapla.storage.sqlite.database import SqliteSettings
from kapla.storage.sqlite.keeping.state import Hold
from tests.kapla.storage.databases import Sessions

__all__ = ["MIB", "check", "fill", "hold", "ids_of", "stored_bytes"]

MIB = 1 << 20


def stored_bytes(settings: SqliteSettings) -> int:
    """What the store takes up: the database, the WAL, and the reserve."""
    names = [str(settings.path) + suffix for suffix in ("", "-wal", "-reserve")]
    return sum(os.stat(name).st_size for name in names if os.path.exists(name))


def ids_of(store: Sessions, references: Iterable[Reference]) -> dict[Reference, int]:
    """The ids of those that are there."""
    found = store.writer._find_kept(dict.fromkeys(references, b""))
    return {row[0]: row[2] for row in found.rows}


def hold(store: Sessions, references: Iterable[Reference], size: int = 1024) -> Hold:
    """Hold blocks that are there, as an open pin does."""
    keeping = store.writer._database.keeping
    ids = ids_of(store, references)
    opened = keeping.open_hold(0)
    with keeping.lock:
        keeping.hold(opened, [(block_id, size) for block_id in ids.values()])
    return opened


def fill(store: Sessions, blocks: dict[Reference, bytes], at_once: int = 64) -> None:
    """Put blocks, some at a time; none is refused."""
    names = list(blocks)
    for start in range(0, len(names), at_once):
        part = {name: blocks[name] for name in names[start : start + at_once]}
        assert not store.writer.put_many(part).refused


def check(store: Sessions, path: Path, names: Iterable[Reference]) -> set[Reference]:
    """See that all that is told of the store is so; returns which of these are there."""
    found = store.reader.find_many(list(names))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT reference, length(block) FROM blocks").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert found == {reference for reference, _ in rows}
    assert len(rows) == len(found)
    counts = {1024: 0, 32768: 0}
    for _, length in rows:
        counts[length] += 1
    assert store.reader.totals() == store.writer._database.totals == counts
    return found

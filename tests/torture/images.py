"""Stores as earlier versions left them: made by the present one, and taken back."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.writer import SqliteWriter
from tests.torture.blocks import new_blocks
from tests.torture.disk import Image
from tests.torture.history import History, before_pins

__all__ = ["image_of_version"]

# What each version brought.
_TABLES = {2: ("upkeep",), 3: ("pins", "wanted", "arrivals", "lent")}


def image_of_version(version: int, random: Random, history: History) -> Image:
    """A store with some blocks in it, as the history has them from now on."""
    with tempfile.TemporaryDirectory(prefix="kapla-image-", dir=_memory()) as name:
        path = Path(name) / "blocks.sqlite"
        _fill(SqliteSettings(path, generation=16), random, history)
        with closing(sqlite3.connect(path)) as connection:
            for later in range(version + 1, 4):
                for table in _TABLES[later]:
                    connection.execute(f"DROP TABLE {table}")
            connection.execute("UPDATE kapla_schema SET version = ?", (version,))
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        facts = history.now
        if version < 3:
            facts = replace(facts, pins=before_pins(history.blocks))
        history.restart(facts, history.order)
        return {"": path.read_bytes()}


def _fill(settings: SqliteSettings, random: Random, history: History) -> None:
    with closing(SqliteWriter(open_database(settings))) as writer:
        for size in (BlockSize.SMALL, BlockSize.SMALL, BlockSize.LARGE):
            blocks = new_blocks(random, size, random.randrange(1, 12))
            history.put(blocks, partial(writer.put_many, blocks), StoreUnavailable)
        # Or the notes of a move that is under way would be lost with their table.
        writer.keeper.empty_log()


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None

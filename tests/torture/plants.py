"""Faults to plant in the storage, to see that they are found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final
from unittest.mock import patch

from eris.model import Reference
from kapla.storage.sqlite import engine
from kapla.storage.sqlite.database import SqliteSettings
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.rows import PinRows
from kapla.storage.sqlite.keeping.state import Keeping
from kapla.storage.sqlite.keeping.traffic import PinTraffic
from kapla.storage.sqlite.statements import statements
from kapla.storage.sqlite.writer import PutResult, SqliteWriter

__all__ = ["PLANTS"]


@contextmanager
def _no_log() -> Iterator[None]:
    with patch.object(statements(), "log", "INSERT INTO recent SELECT ?, ? WHERE 0"):
        yield


@contextmanager
def _no_count() -> Iterator[None]:
    with patch.object(
        statements(), "count", "UPDATE totals SET blocks = blocks + 0 * ? WHERE block_size = ?"
    ):
        yield


@contextmanager
def _no_sync() -> Iterator[None]:
    configure = engine._configure

    def careless(connection: sqlite3.Connection, settings: SqliteSettings) -> None:
        configure(connection, settings)
        connection.execute("PRAGMA synchronous = off")

    with patch.object(engine, "_configure", careless):
        yield


@contextmanager
def _split() -> Iterator[None]:
    whole = SqliteWriter.put_many

    def split(writer: SqliteWriter, blocks: dict[Reference, bytes]) -> PutResult:
        items = list(blocks.items())
        whole(writer, dict(items[: len(items) // 2]))
        return whole(writer, dict(items[len(items) // 2 :]))

    with patch.object(SqliteWriter, "put_many", split):
        yield


@contextmanager
def _no_arrival() -> Iterator[None]:
    def forget(rows: PinRows, arrived: Iterable[tuple[int, int, int]]) -> None:
        for _ in arrived:
            pass

    with patch.object(PinRows, "arrive", forget):
        yield


@contextmanager
def _evict_all() -> Iterator[None]:
    with patch.object(Keeping, "safe", lambda _: Ids()):
        yield


@contextmanager
def _no_move() -> Iterator[None]:
    with patch.object(PinTraffic, "move", lambda *_: False):
        yield


PLANTS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    # Done by the session itself: see `works.Session.answers_early`.
    "early-answer": nullcontext,
    "no-log": _no_log,
    "no-count": _no_count,
    "no-sync": _no_sync,
    "split-commit": _split,
    "no-arrival": _no_arrival,
    "evict-all": _evict_all,
    "no-move": _no_move,
}

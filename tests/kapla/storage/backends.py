"""What tests of SQLite's side know of an open store."""

from __future__ import annotations

from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.backend import SqliteBackend
from kapla.storage.sqlite.keeping.state import Keeping
from kapla.storage.sqlite.state import Database

__all__ = ["database_of", "keeping_of"]


def database_of(storage: BatchedStorage) -> Database:
    """What its sessions share."""
    assert isinstance(storage.backend, SqliteBackend)
    return storage.backend.database


def keeping_of(storage: BatchedStorage) -> Keeping:
    """What is kept, held and lent."""
    return database_of(storage).keeping

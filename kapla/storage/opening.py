"""Opening a store: the backend that its settings are of."""

from __future__ import annotations

from kapla.errors import StorageError
from kapla.storage.port import Backend, StoreSettings
from kapla.storage.sqlite.backend import SqliteBackend
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["open_backend"]


def open_backend(settings: StoreSettings) -> Backend:
    """Make or upgrade the store, and open it.

    Raises: StorageError.
    """
    if not isinstance(settings, SqliteSettings):
        raise StorageError(f"no store can be opened in {settings}")
    return SqliteBackend(settings)

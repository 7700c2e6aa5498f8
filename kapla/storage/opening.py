"""Opening a store: the backend that its settings are of."""

from __future__ import annotations

from kapla.errors import StorageError
from kapla.storage.port import Backend, StoreSettings
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.sqlite.backend import SqliteBackend
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["open_backend"]


def open_backend(settings: StoreSettings) -> Backend:
    """Make or upgrade the store, and open it.

    Raises: StorageError.
    """
    if isinstance(settings, PostgresSettings):
        return _open_database(settings)
    assert isinstance(settings, SqliteSettings)
    return SqliteBackend(settings)


def _open_database(settings: PostgresSettings) -> Backend:
    try:
        # The driver is an extra, and takes a moment to load.
        from kapla.storage.postgresql.backend import PostgresBackend
    except ImportError as error:
        # The library that it stands on may be what is missing; then there are more lines.
        reason = str(error).partition("\n")[0]
        raise StorageError(
            f"cannot use the store {settings}: the driver of PostgreSQL is missing ({reason}):"
            " pip install 'psycopg[binary]', or take the variant of the package that has it"
        ) from error
    return PostgresBackend(settings)

"""What of the daemon's settings its store is told. Pure."""

from __future__ import annotations

from pathlib import Path

from kapla.config import Config
from kapla.database_url import DatabaseUrl
from kapla.storage.port import StoreSettings
from kapla.storage.sqlite.state import SqliteSettings
from kapla.store_place import StorePlace

__all__ = ["file_settings", "plain_settings", "store_settings"]


def store_settings(config: Config) -> StoreSettings:
    """How the store is opened, and what holds while it is."""
    store = config.store
    if isinstance(store, DatabaseUrl):
        return _database_settings(config, store)
    return file_settings(config, store)


def file_settings(config: Config, path: Path) -> SqliteSettings:
    """The same of a store in a file."""
    return SqliteSettings(
        path,
        synchronous=config.synchronous,
        max_size=config.max_size,
        min_free=config.min_free,
        when_full=config.when_full,
        rebuild_index=config.rebuild_index,
        scrub_rate=config.scrub_rate,
        max_pinned=config.max_pinned,
        lend_cache=config.lend_cache,
    )


def plain_settings(place: StorePlace, *, may_make: bool = True) -> StoreSettings:
    """How a store is opened by who is no daemon: without limits, and nothing in the background.

    `may_make`: whether a database without one gets one.
    """
    if isinstance(place, Path):
        return SqliteSettings(place)
    from kapla.storage.postgresql.settings import PostgresSettings

    return PostgresSettings.of(place.text, may_make=may_make)


def _database_settings(config: Config, database: DatabaseUrl) -> StoreSettings:
    # Loaded by those who have one.
    from kapla.storage.postgresql.settings import PostgresSettings

    return PostgresSettings.of(
        database.text,
        synchronous=config.synchronous,
        max_size=config.max_size,
        when_full=config.when_full,
        max_pinned=config.max_pinned,
        lend_cache=config.lend_cache,
    )

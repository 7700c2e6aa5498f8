"""What of the daemon's settings its store is told. Pure."""

from __future__ import annotations

from kapla.config import Config
from kapla.storage.sqlite.state import SqliteSettings

__all__ = ["store_settings"]


def store_settings(config: Config) -> SqliteSettings:
    """How the store is opened, and what holds while it is."""
    return SqliteSettings(
        config.store,
        synchronous=config.synchronous,
        max_size=config.max_size,
        min_free=config.min_free,
        when_full=config.when_full,
        rebuild_index=config.rebuild_index,
        scrub_rate=config.scrub_rate,
        max_pinned=config.max_pinned,
        lend_cache=config.lend_cache,
    )

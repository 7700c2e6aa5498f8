"""Where a daemon keeps its store unless it is told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kapla.errors import ConfigError
from kapla.local_socket import is_root
from kapla.user_paths import user_path

__all__ = ["SYSTEM_STORE", "default_store"]

SYSTEM_STORE: Final = Path("/var/lib/kapla/blocks.sqlite")
"""That of root's daemon."""


def default_store() -> Path:
    """The SQLite file of whoever runs this.

    Raises: ConfigError, if the user has no home.
    """
    if is_root():
        return SYSTEM_STORE
    directory = user_path("data", "kapla")
    if directory is None:
        raise ConfigError("there is no home directory to keep the store in: name one with --store")
    return directory / "blocks.sqlite"

"""Where a daemon keeps its store: a file of its own, or a database; and where if nobody says.

A file is a `Path`, and a database a `DatabaseUrl`: whoever uses a place sees to both.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from kapla.database_url import DatabaseUrl, parse_database_url
from kapla.errors import ConfigError
from kapla.local_socket import is_root
from kapla.user_paths import user_path

__all__ = ["SYSTEM_STORE", "StorePlace", "default_store", "is_url", "parse_place"]

StorePlace = Path | DatabaseUrl
"""A SQLite file, or a database of a server."""

SYSTEM_STORE: Final = Path("/var/lib/kapla/blocks.sqlite")
"""That of root's daemon."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40})://")
# Without their slashes they would be files of that name.
_SLASHES_MISSING: Final = re.compile(r"postgres(ql)?:")
_OF_PATHS: Final = frozenset({"file", "sqlite", "sqlite3"})


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


def is_url(text: str) -> bool:
    """Whether this is to be a URL, and no path."""
    return _URL.match(text) is not None or _SLASHES_MISSING.match(text) is not None


def parse_place(value: object) -> StorePlace:
    """Read a path, absolute or from the working directory, or the URL of a database.

    In a path `~` is a home. Raises: ValueError.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path is expected, or the URL of a database")
    return _parse_url(value) if is_url(value) else _parse_path(value)


def _parse_url(text: str) -> DatabaseUrl:
    found = _URL.match(text)
    scheme = "" if found is None else found[1].lower()
    if scheme in _OF_PATHS:
        raise ValueError(f"a store in a file is named by its path, without {scheme}://")
    if scheme not in ("", "postgres", "postgresql"):
        raise ValueError(
            f"no store is kept by {scheme}://: name the path of a file, or a database as in"
            " postgresql:///kapla?host=/run/postgresql"
        )
    return parse_database_url(text)


def _parse_path(text: str) -> Path:
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError("there is no such user, or no home directory")
    path = Path(os.path.abspath(expanded))
    if not path.name:
        raise ValueError("the path of a file is expected")
    return path

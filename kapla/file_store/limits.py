"""How large the store in a file may grow: what the daemon's settings say, if it is the daemon's.

Those of whoever runs this, and those of the system's daemon. A file that neither names may grow as
long as the disk has room.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kapla.config import Config, load_config
from kapla.config.load import SYSTEM_FILE, default_file
from kapla.errors import ConfigError
from kapla.local_socket import is_root
from kapla.storage.sqlite.state import SqliteSettings
from kapla.store_place import SYSTEM_STORE, default_store
from kapla.store_settings import file_settings

__all__ = ["settings_of"]


def settings_of(path: Path, *, may_be_wrong: bool = False) -> SqliteSettings:
    """How this file is to be opened.

    `may_be_wrong`: settings that are wrong count as none, as for who only reads.
    Raises: ConfigError, where settings that may be about it are wrong.
    """
    try:
        for config in _configs(path):
            if isinstance(config.store, Path) and _is_same(config.store, path):
                # What a daemon does in the background is not for a command.
                return replace(file_settings(config, path), scrub_rate=0, rebuild_index=False)
    except ConfigError:
        if not may_be_wrong:
            raise
    return SqliteSettings(path)


def _configs(path: Path) -> Iterator[Config]:
    is_told = any(name.startswith("KAPLA_") for name in os.environ)
    try:
        if is_told or default_file() is not None:
            yield load_config()
        if is_root() or not os.access(SYSTEM_FILE, os.R_OK):
            return
        system = load_config(file=str(SYSTEM_FILE), environment={})
    except ConfigError as error:
        raise ConfigError(
            f"the daemon's settings, which may limit the store {path}, are wrong: {error}"
        ) from error
    # Where they name no store it is root's that is meant, not one of whoever reads them here.
    is_named = system.store != default_store()
    yield system if is_named else replace(system, store=SYSTEM_STORE)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        # Not there yet.
        return os.path.realpath(one) == os.path.realpath(other)

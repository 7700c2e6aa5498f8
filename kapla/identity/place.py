"""Where this machine's key pair is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kapla.errors import ConfigError
from kapla.local_socket import is_root
from kapla.user_paths import user_path

__all__ = ["default_path"]

_NAME: Final = "identity.pem"


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the key pair of whoever runs this is.

    Raises: ConfigError, if there is no place for it.
    """
    if given := environment.get("STATE_DIRECTORY"):
        # Of a service manager, which may give several.
        return _absolute(given.split(":")[0], "$STATE_DIRECTORY") / _NAME
    if given := environment.get("XDG_STATE_HOME"):
        return _absolute(given, "$XDG_STATE_HOME") / "kapla" / _NAME
    if is_root():
        return Path("/var/lib/kapla") / _NAME
    directory = user_path("state", "kapla")
    if directory is None:
        raise ConfigError("there is no home directory to keep the key pair in: set $XDG_STATE_HOME")
    return directory / _NAME


def _absolute(text: str, variable: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(f"{variable} is no absolute path")
    return path

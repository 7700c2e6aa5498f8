"""Where this machine's daemons listen unless they are told otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["SYSTEM_SOCKET", "default_socket", "is_root"]

SYSTEM_SOCKET: Final = Path("/run/eris.sock")
"""Where the system's daemon listens."""


def is_root() -> bool:
    """Whether this is the system's daemon or client."""
    return os.geteuid() == 0


def default_socket(environment: Mapping[str, str]) -> Path:
    """Where this user's daemon listens."""
    if is_root():
        return SYSTEM_SOCKET
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return Path(runtime) / "eris.sock"

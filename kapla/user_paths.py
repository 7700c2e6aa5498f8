"""Where a user's own files are, by the rules of XDG; for some users nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import platformdirs

__all__ = ["user_path"]


def user_path(kind: Literal["cache", "config", "data", "state"], name: str) -> Path | None:
    """The directory of this name for what a user has of this kind; it need not be there.

    None without a home: no `$HOME`, and no entry for the user that names one.
    """
    find = {
        "cache": platformdirs.user_cache_path,
        "config": platformdirs.user_config_path,
        "data": platformdirs.user_data_path,
        "state": platformdirs.user_state_path,
    }[kind]
    try:
        path = Path(find(name))
    except RuntimeError:
        return None
    # Some versions of the library give back a path that begins with ~.
    return path if path.is_absolute() else None

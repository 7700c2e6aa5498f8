"""Where the programs of Guix are: on the path, or where Guix is usually installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["PROFILES", "REAL_GUIX", "find_program", "find_real_guix"]

REAL_GUIX: Final = "KAPLA_REAL_GUIX"
"""Names the real `guix`, for the jobs that are not ours."""

PROFILES: Final = (
    "/run/current-system/profile/bin",
    "/var/guix/profiles/per-user/root/current-guix/bin",
    "/root/.config/guix/current/bin",
    "/root/.guix-profile/bin",
    "/usr/local/bin",
    "/usr/bin",
)
"""`kapla-guix` has this list too: it may not need anything of ours."""


def find_program(name: str, environment: Mapping[str, str], *, but: str = "") -> str | None:
    """A program on the path or where Guix is usually installed; `but` is one that it is not."""
    for directory in (*environment.get("PATH", "").split(os.pathsep), *PROFILES):
        path = os.path.join(directory, name)
        if (
            os.path.isabs(path)
            and os.path.isfile(path)
            and os.access(path, os.X_OK)
            and os.path.realpath(path) != os.path.realpath(but)
        ):
            return path
    return None


def find_real_guix(environment: Mapping[str, str], wrapper: str) -> str | None:
    """The `guix` that $KAPLA_REAL_GUIX names, else the one that is installed, but no wrapper."""
    return environment.get(REAL_GUIX) or find_program("guix", environment, but=wrapper)

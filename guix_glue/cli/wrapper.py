"""`kapla-guix`: what the Guix daemon runs in the place of `guix`, when its $GUIX says so.

The daemon knows one program for all its helpers. This one does `substitute` itself and becomes the
real `guix` for every other job, with the same arguments, descriptors and environment. It runs as
root for each of them, often: so nothing is imported before it is known what is wanted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

__all__ = ["REAL_GUIX", "find_program", "find_real_guix", "main"]

REAL_GUIX = "KAPLA_REAL_GUIX"
"""Names the real `guix`, for the jobs that are not ours."""

_PROFILES = (
    "/run/current-system/profile/bin",
    "/var/guix/profiles/per-user/root/current-guix/bin",
    "/root/.config/guix/current/bin",
    "/root/.guix-profile/bin",
    "/usr/local/bin",
    "/usr/bin",
)


def find_program(name: str, environment: Mapping[str, str]) -> str | None:
    """A program on the path or where Guix is usually installed; never this one."""
    ourselves = os.path.realpath(sys.argv[0])
    for directory in (*environment.get("PATH", "").split(os.pathsep), *_PROFILES):
        path = os.path.join(directory, name)
        if (
            os.path.isabs(path)
            and os.path.isfile(path)
            and os.access(path, os.X_OK)
            and os.path.realpath(path) != ourselves
        ):
            return path
    return None


def find_real_guix(environment: Mapping[str, str]) -> str | None:
    """The `guix` that $KAPLA_REAL_GUIX names, else the one that is installed."""
    return environment.get(REAL_GUIX) or find_program("guix", environment)


def main() -> None:
    """Run `kapla substitute`, or become the real `guix`."""
    if sys.argv[1:2] == ["substitute"]:
        from kapla.cli.main import main as kapla

        kapla()
    else:
        _become_real_guix()


def _become_real_guix() -> NoReturn:
    guix = find_real_guix(os.environ)
    if guix is None:
        sys.exit(f"kapla-guix: no guix is found; name it in ${REAL_GUIX}")
    if os.path.realpath(guix) == os.path.realpath(sys.argv[0]):
        # It would call itself for ever.
        sys.exit(f"kapla-guix: ${REAL_GUIX} names this program itself")
    try:
        os.execv(guix, [guix, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"kapla-guix: {guix}: {error.strerror}")

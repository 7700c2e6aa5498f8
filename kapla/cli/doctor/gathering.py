"""Gathers the facts: looks around within some seconds, and changes nothing.

What cannot be learnt is left out: a check has nothing to say of it.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from typing import TypeVar

from kapla import __version__
from kapla.cli.doctor.around import guix, others_packages, shadowed, units
from kapla.cli.doctor.asking import ask_stores
from kapla.cli.doctor.facts import Facts, SettingsFacts, StoreFacts
from kapla.cli.doctor.looking import catalogue_error, disk_of, files, newest_of_ours
from kapla.cli.doctor.settings import read_settings

__all__ = ["gather"]

_T = TypeVar("_T")


def gather(store_url: str | None) -> Facts:
    """All facts of this machine, user and store; `store_url` as commands get it."""
    uid = os.geteuid()
    blind: list[tuple[str, str]] = []

    def look(what: str, at: Callable[[], _T], otherwise: _T) -> _T:
        # What goes wrong with one thing keeps nobody from the others.
        try:
            return at()
        except Exception as error:
            blind.append((what, f"{type(error).__name__}: {error}"))
            return otherwise

    nobody: tuple[list[StoreFacts], str | None] = ([], None)
    stores, url_error = look("store", lambda: ask_stores(store_url), nobody)
    local_pid = next((one.pid for one in stores if one.pid), None)
    settings = look("settings", lambda: read_settings(local_pid), SettingsFacts())
    return Facts(
        version=__version__,
        user=_user(uid),
        uid=uid,
        now=time.time(),
        newest_file=look("clock", newest_of_ours, 0.0),
        runtime_dir=os.environ.get("XDG_RUNTIME_DIR") or None,
        has_runtime_dir=os.path.isdir(f"/run/user/{uid}"),
        url_error=url_error,
        stores=tuple(stores),
        settings=settings,
        disk=look("disk", lambda: disk_of(settings.store) if settings.store else None, None),
        files=look("files", lambda: tuple(files()), ()),
        catalogue_error=look("catalogue", catalogue_error, None),
        units=look("services", lambda: tuple(units()), ()),
        others_packages=look("Python", lambda: tuple(others_packages()), ()),
        shadowed=look("Python", lambda: tuple(shadowed()), ()),
        guix=look("Guix", guix, None),
        blind=tuple(blind),
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

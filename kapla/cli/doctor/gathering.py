"""Gathers the facts: looks around within some seconds, and changes nothing.

What cannot be learnt is left out: a check has nothing to say of it.
"""

from __future__ import annotations

import os
import pwd
import time

from kapla import __version__
from kapla.cli.doctor.around import guix, others_packages, shadowed, units
from kapla.cli.doctor.asking import ask_stores
from kapla.cli.doctor.facts import Facts
from kapla.cli.doctor.looking import catalogue_error, disk_of, files, newest_of_ours
from kapla.cli.doctor.settings import read_settings

__all__ = ["gather"]


def gather(store_url: str | None) -> Facts:
    """All facts of this machine, user and store; `store_url` as commands get it."""
    uid = os.geteuid()
    stores, url_error = ask_stores(store_url)
    local_pid = next((one.pid for one in stores if one.pid), None)
    settings = read_settings(local_pid)
    return Facts(
        version=__version__,
        user=_user(uid),
        uid=uid,
        now=time.time(),
        newest_file=newest_of_ours(),
        runtime_dir=os.environ.get("XDG_RUNTIME_DIR") or None,
        has_runtime_dir=os.path.isdir(f"/run/user/{uid}"),
        url_error=url_error,
        stores=tuple(stores),
        settings=settings,
        disk=disk_of(settings.store) if settings.store else None,
        files=tuple(files()),
        catalogue_error=catalogue_error(),
        units=tuple(units()),
        others_packages=tuple(others_packages()),
        shadowed=tuple(shadowed()),
        guix=guix(),
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

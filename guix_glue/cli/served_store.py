"""Which store of this machine `kapla publish` serves: that of Guix, or that of Nix."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from guix_glue.errors import PublishError
from guix_glue.local.environment import GuixEnvironment, NixEnvironment

__all__ = ["store_to_serve"]


def store_to_serve(
    environ: Mapping[str, str], store_dir: str | None, *, for_nix: bool
) -> GuixEnvironment | NixEnvironment:
    """The store at `store_dir`; without it the one that there is.

    Where there are both, or none, it is that of Guix, and that of Nix if all is signed for Nix
    alone (`for_nix`): so a server of Guix stays one when Nix is installed beside it.
    Raises: click.UsageError, for another directory; PublishError, if there is no database of Nix
    to read; GuixError, if a variable makes no sense.
    """
    guix, nix = GuixEnvironment.from_environ(environ), NixEnvironment.from_environ(environ)
    found: list[GuixEnvironment | NixEnvironment] = [
        one for one in (guix, nix) if store_dir in (None, one.store_dir)
    ]
    if not found:
        raise click.UsageError(
            f"--store-dir: {store_dir} is neither the store of Guix ({guix.store_dir}) nor that of"
            f" Nix ({nix.store_dir}); --items serves a directory as if it were there."
        )
    there = [one for one in found if _is_there(one)] or found
    chosen = there[0] if len(there) == 1 else nix if for_nix else guix
    if isinstance(chosen, NixEnvironment) and not _is_there(chosen):
        raise PublishError(
            f"there is no store of Nix here: {_database(chosen)} is missing. NIX_STATE_DIR says"
            " where it is, and --items serves a directory without any store"
        )
    return chosen


def _is_there(one: GuixEnvironment | NixEnvironment) -> bool:
    if os.path.exists(_database(one)):
        return True
    # The daemon may be on another machine, or all that we may see.
    return isinstance(one, GuixEnvironment) and (
        "://" in one.daemon_socket or os.path.exists(one.daemon_socket)
    )


def _database(one: GuixEnvironment | NixEnvironment) -> str:
    return os.path.join(one.database_dir, "db.sqlite")

"""What the options of `kapla seed` mean together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from guix_glue.local.user_caches import (
    PROXY_CACHE,
    caches_directory,
    proxied_items_file,
    public_items_file,
)
from guix_glue.servers.url import Server

__all__ = ["SeedSettings", "StoreOfItems", "seed_settings"]

_MOST_THREADS: Final = 4
_SYSTEM_NOTES: Final = "/var/cache/kapla/public-items"


@dataclass(frozen=True, slots=True)
class StoreOfItems:
    """A store, and where what is known of it is: directories without a slash at the end."""

    is_nix: bool
    store_dir: str
    state_dir: str
    database_dir: str
    log_dir: str


@dataclass(frozen=True, slots=True)
class SeedSettings:
    """All options, read and checked. `store` is None where only directories are seeded."""

    directories: tuple[str, ...]
    store: StoreOfItems | None
    upstream: tuple[Server, ...] = field(repr=False)
    acl: Path
    deny: tuple[str, ...]
    allow: tuple[str, ...]
    pin: bool
    index: Path
    public_items: tuple[Path, ...]
    threads: int
    user: str | None


def seed_settings(
    *,
    directories: Sequence[Path],
    store_dir: str | None,
    upstream: tuple[Server, ...],
    acl: Path | None,
    deny: tuple[str, ...],
    allow: tuple[str, ...],
    pin: bool,
    index_dir: Path | None,
    public_items: Sequence[Path],
    threads: int | None,
    user: str | None,
    environ: Mapping[str, str],
) -> SeedSettings:
    """Read the options. Raises: click.UsageError; GuixError."""
    environment = GuixEnvironment.from_environ(environ)
    store = None
    if store_dir is not None or not directories:
        store = _store(environment, NixEnvironment.from_environ(environ), store_dir)
    if store is None and (upstream or acl or deny or allow or pin):
        raise click.UsageError(
            "--upstream, --acl, --deny, --allow and --pin are for items of a store: add --store."
        )
    index = _index(index_dir, environ)
    return SeedSettings(
        tuple(_real(directory, index) for directory in directories),
        store,
        upstream,
        acl or Path(environment.config_dir, "acl"),
        deny,
        allow,
        pin,
        index,
        tuple(public_items) or _notes(environ),
        threads or min(_MOST_THREADS, len(os.sched_getaffinity(0))),
        user,
    )


def _store(guix: GuixEnvironment, nix: NixEnvironment, store_dir: str | None) -> StoreOfItems:
    of_guix = StoreOfItems(False, guix.store_dir, guix.state_dir, guix.database_dir, guix.log_dir)
    of_nix = StoreOfItems(True, nix.store_dir, nix.state_dir, nix.database_dir, nix.log_dir)
    if store_dir is None:
        only_nix = os.path.exists(nix.database_dir) and not os.path.exists(guix.database_dir)
        return of_nix if only_nix else of_guix
    given = store_dir.rstrip("/")
    # NIX_STORE_DIR is read by both: then whichever has a database there is meant.
    meant = [one for one in (of_guix, of_nix) if one.store_dir == given]
    meant.sort(key=lambda one: not os.path.exists(one.database_dir))
    if not meant:
        raise click.BadParameter(
            f"the stores of this machine are {of_guix.store_dir} and {of_nix.store_dir};"
            " a directory that is no store is named without --store",
            param_hint="--store",
        )
    return meant[0]


def _index(given: Path | None, environ: Mapping[str, str]) -> Path:
    if given is not None:
        return given.absolute()
    caches = caches_directory(environ)
    if caches is None:
        raise click.UsageError("there is no home to keep an index in: --index names a place.")
    return Path(caches, "kapla", "seed")


def _real(directory: Path, index: Path) -> str:
    """The path without symlinks: whoever names a directory by one means where that leads."""
    if not os.path.lexists(directory):
        raise click.BadParameter(f"there is no {directory}", param_hint="DIR")
    real = directory.resolve()
    if index.resolve().is_relative_to(real):
        raise click.UsageError(
            f"{directory} has the index in it, which would change it all the time: --index names"
            " another place."
        )
    return str(real)


def _notes(environ: Mapping[str, str]) -> tuple[Path, ...]:
    every = (_SYSTEM_NOTES, proxied_items_file(PROXY_CACHE), public_items_file(environ))
    return tuple(dict.fromkeys(Path(one) for one in every if one is not None))

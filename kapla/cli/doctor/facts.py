"""What there is to know before a verdict: plain values, gathered once. Pure.

None stands for what could not be learnt: no check complains of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["DiskFacts", "Facts", "FileFacts", "GuixFacts", "SettingsFacts", "StoreFacts"]


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store that commands use, and what came of asking it."""

    name: str
    """For people; without a path, which may be a capability."""
    socket: str | None = None
    """The path of the Unix socket; None of any other store."""
    is_file: bool = False
    """Whether it is a store's own file, which is used without a daemon."""
    is_there: bool = True
    is_socket: bool = True
    group: str | None = None
    """The group that the socket is for, if it is for any."""
    in_group: bool = False
    """Whether this process is in that group."""
    in_group_later: bool = False
    """Whether the user is, by the books: then a new login is all that is missing."""
    number: int | None = None
    """The `errno` of the failed connection."""
    error: str | None = None
    """Why it cannot be asked; None if it answers."""
    report: dict[str, Any] | None = None
    """What it told of itself, if it is a daemon of ours and tells."""
    peers: tuple[dict[str, Any], ...] = ()
    pid: int | None = None
    open_files: int | None = None
    """How many files the daemon may have open."""


@dataclass(frozen=True, slots=True)
class SettingsFacts:
    """What `kaplad` has read, or would read here, by its own loader."""

    is_known: bool = False
    error: str | None = None
    store: str = ""
    max_size: int | None = None
    min_free: int | None = None
    max_connections: int = 0
    ports: tuple[tuple[str, int, str | None], ...] = ()
    """Host, port, and why it takes no connection from here; None if it does."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system that a store is on, or would be."""

    path: str
    """The store's file, or the nearest directory above that is there."""
    kind: str | None
    """As the kernel calls it: ext4, nfs4."""
    total: int
    free: int
    store_bytes: int | None = None
    """The size of the file; None if there is none, or it may not be seen."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file or directory that should be ours, and for us alone."""

    what: str
    path: str
    owner: str
    is_ours: bool
    mode: int
    is_secret: bool
    """Whether nobody else may read it."""
    is_directory: bool = False
    error: str | None = None
    """Why it cannot be used, in words."""


@dataclass(frozen=True, slots=True)
class GuixFacts:
    """How the daemon of Guix is set up."""

    environment: str | None
    """Its variables, as systemd has them; None where that cannot be learnt."""
    has_acl: bool | None
    """Whether any key is authorized; None where that cannot be seen."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known."""

    version: str
    user: str
    uid: int
    now: float
    """Seconds since 1970."""
    newest_file: float
    """The time of the newest of our own files: it cannot be later than now."""
    runtime_dir: str | None
    """$XDG_RUNTIME_DIR, if it is set."""
    has_runtime_dir: bool
    """Whether the directory where the user's socket belongs is there."""
    url_error: str | None = None
    """What is wrong with the store URLs that are set."""
    stores: tuple[StoreFacts, ...] = ()
    settings: SettingsFacts = field(default_factory=SettingsFacts)
    disk: DiskFacts | None = None
    files: tuple[FileFacts, ...] = ()
    catalogue_error: str | None = None
    units: tuple[tuple[str, str, str], ...] = ()
    """Units of systemd that are installed: name, state (`active`, `failed` …), result."""
    others_packages: tuple[str, ...] = ()
    """Installed packages, not ours, that bring modules under our names."""
    shadowed: tuple[tuple[str, str], ...] = ()
    """Modules of ours that are loaded from elsewhere: name, path."""
    guix: GuixFacts | None = None
    """None where there is no Guix."""
    blind: tuple[tuple[str, str], ...] = ()
    """What could not be looked at, against all expectation, and what went wrong."""

"""Looks at disks and files."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kapla.cli.doctor.facts import DiskFacts, FileFacts
from kapla.user_paths import user_path

__all__ = ["catalogue_error", "disk_of", "files", "newest_of_ours"]


def newest_of_ours() -> float:
    """When the newest file of this package was made: the clock cannot be before that."""
    directory = Path(__file__).resolve().parent
    return max((file.stat().st_mtime for file in directory.glob("*.py")), default=0.0)


def disk_of(store: str) -> DiskFacts | None:
    """The disk that a store is on, or will be."""
    path = store
    while not os.path.exists(path):
        if path == os.path.dirname(path):
            return None
        path = os.path.dirname(path)
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size = None
    with suppress(OSError):
        size = os.stat(store).st_blocks * 512
    return DiskFacts(
        path=store,
        kind=_kind_of(os.path.realpath(path)),
        total=found.f_blocks * found.f_frsize,
        free=found.f_bavail * found.f_frsize,
        store_bytes=size,
    )


def _kind_of(path: str) -> str | None:
    """The kind of the file system: of all mounts above the path the longest, the last of equals."""
    best, kind = "", None
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            before, _, behind = line.partition(" - ")
            point = before.split()[4].encode().decode("unicode_escape")
            if len(point) >= len(best) and os.path.join(path, "").startswith(
                os.path.join(point, "")
            ):
                best, kind = point, behind.split()[0]
    return kind


def files() -> Iterator[FileFacts]:
    """Our own files, those that are there."""
    from kapla.encode_cache import default_cache_path
    from kapla.errors import ConfigError
    from kapla.identity.pair import default_path

    with suppress(ConfigError):
        identity = default_path()
        yield from _file("key pair", identity, is_secret=True)
    if directory := user_path("data", "kapla-client"):
        yield from _file("catalogue", directory, is_secret=False)
        yield from _file("catalogue", directory / "catalogue.sqlite", is_secret=True)
    if cache := default_cache_path():
        yield from _file("encode cache", cache.parent, is_secret=False)
        yield from _file("encode cache", cache, is_secret=True)
    yield from _file("signing key", Path("/etc/guix/signing-key.sec"), is_secret=True)


def _file(what: str, path: Path, *, is_secret: bool) -> Iterator[FileFacts]:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except OSError as error:
        yield FileFacts(what, str(path), "", True, 0, is_secret, error=error.strerror)
        return
    is_ours = found.st_uid == os.geteuid()
    if what == "signing key" and not is_ours:
        # Root's, as it should be.
        return
    yield FileFacts(
        what,
        str(path),
        _owner(found.st_uid),
        is_ours,
        found.st_mode & 0o7777,
        is_secret,
        is_directory=os.path.isdir(path),
    )


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _is_open(path: Path) -> bool:
    try:
        return bool(os.lstat(path).st_mode & 0o077)
    except OSError:
        return False


def catalogue_error() -> str | None:
    """Why the catalogue cannot be read; None if it can, or if there is none.

    One that others may read is closed to them when it is opened, so it is not: that is told of.
    """
    from kapla.cli.opened import CatalogueUnread, opened

    directory = user_path("data", "kapla-client")
    if directory is None or any(map(_is_open, (directory, directory / "catalogue.sqlite"))):
        return None
    try:
        with opened() as catalogue:
            if catalogue is not None:
                catalogue.names()
    except CatalogueUnread as error:
        return str(error)
    return None

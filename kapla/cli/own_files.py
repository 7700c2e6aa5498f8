"""Files of kapla itself, which `kapla encode` takes into no content.

The store would hold itself, and changes while blocks are put into it; catalogue, cache and keys
open what is meant to be closed. They are looked for where they usually are and where settings say,
as far as whoever encodes can read these.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eris_fs.selection import Forbidden, ForbiddenFile
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.store import say
from kapla.errors import ConfigError
from kapla.local_socket import default_socket
from kapla.store_place import default_store
from kapla.user_paths import user_path

if TYPE_CHECKING:
    from kapla.config import Config
    from kapla.urls import StoreUrl

__all__ = ["OwnFiles"]

# What SQLite and we ourselves put beside a file.
_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".lock", ".new", ".new-journal")
_SYSTEM_FILE: Final = "/etc/kapla/kapla.toml"


class OwnFiles:
    """Which these are, and which of them a tree would have held."""

    def __init__(self, store_url: str | None) -> None:
        self._met: dict[ForbiddenFile, None] = {}
        self._files = list(_own_files(store_url))
        self.forbidden = Forbidden(self._files, self._meet)

    def look_again(self) -> None:
        """Find them once more: some are made as kapla begins to work."""
        self._met.clear()
        self.forbidden = Forbidden(self._files, self._meet)

    def check(self, path: str) -> None:
        """See that what is to be encoded is none of them.

        Raises: CommandError; OSError.
        """
        status = os.stat(path)
        found = self.forbidden.find(status)
        # A socket cannot be read, whosever it is.
        if found is not None and not stat.S_ISSOCK(status.st_mode):
            text = f"{path} is {found.what} of kapla itself, which goes into no content"
            raise CommandError(text, ExitCode.USAGE)

    def say(self) -> None:
        """Say which were left out, if any."""
        if not self._met:
            return
        kinds: dict[str, str] = {}
        # What is beside a file has a longer name.
        for file in sorted(self._met, key=lambda file: len(file.path)):
            kinds.setdefault(file.what, file.path)
        named = [f"{what} ({path})" for what, path in kinds.items()]
        say(f"left out, as they are kapla's own: {', '.join(named)}")

    def _meet(self, file: ForbiddenFile) -> None:
        self._met[file] = None


def _own_files(store_url: str | None) -> Iterator[ForbiddenFile]:
    with suppress(ConfigError):
        yield from _of_store(default_store())
    yield ForbiddenFile("a socket", str(default_socket(os.environ)))
    for config in _configs():
        if isinstance(config.store, Path):
            yield from _of_store(config.store)
        yield from _of_urls(config.listen)
        yield from _of_urls(config.http)
        yield from _of_urls([] if config.admin is None else [config.admin])
        yield from _of_urls(peer.url for peer in config.peers if peer.url is not None)
    yield from _of_urls(_store_urls(store_url))
    yield from _of_commands()


def _of_store(store: Path) -> Iterator[ForbiddenFile]:
    """A store, and what is beside it: its lock beside the file itself, wherever a symlink leads."""
    for path in {str(store), os.path.realpath(store)}:
        for suffix in _BESIDE:
            yield ForbiddenFile("the store", f"{path}{suffix}")


def _configs() -> Iterator[Config]:
    """Settings of daemons, where there are any: this user's and the system's."""
    directory = user_path("config", "kapla")
    is_own = directory is not None and os.path.exists(directory / "kapla.toml")
    is_system = os.path.exists(_SYSTEM_FILE)
    is_told = any(name.startswith("KAPLA_") for name in os.environ)
    if not (is_own or is_system or is_told):
        # Reading them takes longer than many an encode.
        return
    from kapla.config import load_config

    with suppress(ConfigError):
        yield load_config()
    if is_system:
        with suppress(ConfigError):
            yield load_config(file=_SYSTEM_FILE, environment={})


def _store_urls(store_url: str | None) -> list[StoreUrl]:
    from kapla.default_stores import default_store_urls

    with suppress(ConfigError):
        return default_store_urls(store_url)
    return []


def _of_urls(urls: Iterable[StoreUrl]) -> Iterator[ForbiddenFile]:
    from kapla.urls import FileEndpoint, UnixEndpoint

    for url in (member for one in urls for member in one.members):
        if isinstance(url.endpoint, FileEndpoint):
            yield from _of_store(url.endpoint.path)
        if isinstance(url.endpoint, UnixEndpoint):
            yield ForbiddenFile("a socket", str(url.endpoint.path))
        if url.flags.files is not None and url.flags.files.key is not None:
            yield ForbiddenFile("a private key", str(url.flags.files.key))


def _of_commands() -> Iterator[ForbiddenFile]:
    """What commands keep, and the key that names this machine."""
    from kapla.catalogue.errors import CatalogueUnusable
    from kapla.catalogue.place import default_path as catalogue_path
    from kapla.encode_cache import default_cache_path
    from kapla.identity.place import default_path as key_path

    with suppress(CatalogueUnusable):
        yield from _all_of("the catalogue", catalogue_path())
    cache = default_cache_path()
    if cache is not None:
        yield from _all_of("the encode cache", cache)
    with suppress(ConfigError):
        yield ForbiddenFile("a private key", str(key_path()))


def _all_of(what: str, path: Path) -> Iterator[ForbiddenFile]:
    """A file, and what is beside it: of the catalogue also those that were set aside, damaged."""
    for suffix in _BESIDE:
        yield ForbiddenFile(what, f"{path}{suffix}")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(f"{path.name}.damaged"):
                yield ForbiddenFile(what, str(path.with_name(name)))

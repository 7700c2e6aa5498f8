"""Putting settings together: the file, then the environment, then flags; checked whole.

Unknown keys are errors: a misspelt quota must not pass for none. All that is wrong is told at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from kapla.config.agreement import check_agreement
from kapla.config.file import SettingsFile, read_file
from kapla.config.model import Config
from kapla.config.problems import Misconfigured, Problems
from kapla.config.table import BY_KEY, SETTINGS, Reader, Setting
from kapla.database_url import DatabaseUrl
from kapla.errors import ConfigError, InvalidUrl
from kapla.guessing import meant
from kapla.local_socket import default_socket, is_root
from kapla.peer_config import PeerSettings, WrongPeer, check_peers, parse_peer
from kapla.store_place import default_store
from kapla.urls import StoreUrl, parse_store_url
from kapla.user_paths import user_path

__all__ = ["DEFAULT", "SYSTEM_FILE", "Loaded", "Sources", "default_place", "load", "load_config"]

DEFAULT: Final = "default"
"""The origin of what nobody set."""

SYSTEM_FILE: Final = Path("/etc/kapla/kapla.toml")
"""Where root's daemon looks."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from. `flags`: by the names of options, as `max_size`."""

    file: str | None = None
    flags: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict, repr=False)
    debug: bool = False
    rebuild_index: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each comes from."""

    config: Config
    file: Path | None
    """The file that was read, if there was one."""
    origins: Mapping[str, tuple[str, ...]]
    """By fields of `Config`, of those that somebody set: `kapla.toml:3`, `$KAPLA_STORE`, `--store`.
    Of peers there may be several."""

    def origin(self, name: str) -> str:
        """For people: where the value of a field comes from."""
        return ", ".join(self.origins.get(name, (DEFAULT,)))


def load_config(
    *,
    file: str | None = None,
    debug: bool = False,
    rebuild_index: bool = False,
    environment: Mapping[str, str] = os.environ,
    **flags: str | Sequence[str] | None,
) -> Config:
    """As `load`, for those who want the settings alone."""
    return load(Sources(file, flags, debug, rebuild_index, environment)).config


def load(sources: Sources) -> Loaded:
    """Put all settings together.

    Raises: Misconfigured, a ConfigError that names all places; TypeError for an unknown flag.
    """
    found = _Found()
    environment = sources.environment
    path = sources.file or environment.get("KAPLA_CONFIG") or default_file()
    if path is not None:
        found.take_file(read_file(Path(path), found.problems))
    for setting in SETTINGS:
        if text := environment.get(setting.variable):
            found.take(setting, text, f"${setting.variable}")
    _take_flags(found, sources.flags)
    if sources.debug:
        found.values["log_level"] = "debug"
        found.origins["log_level"] = ("--debug",)
    with found.problems.at(""):
        check_peers(found.peers)
    default_listen = "listen" not in found.values
    for name, default in (("listen", _default_listen), ("store", lambda _: default_store())):
        if name not in found.values and name not in found.failed:
            with found.problems.at(""):
                found.values[name] = default(environment)
    config = replace(
        Config(store=Path(), listen=()),
        default_listen=default_listen,
        rebuild_index=sources.rebuild_index,
        peers=tuple(found.peers),
        **cast(Any, found.values),
    )
    if isinstance(config.store, DatabaseUrl) and "scrub_rate" not in found.values:
        # That of a file.
        config = replace(config, scrub_rate=0)
    loaded = Loaded(config, None if path is None else Path(path), found.origins)
    check_agreement(config, loaded.origins, found.problems)
    if found.problems.found:
        # Not chained: what was typed stands in the causes.
        raise Misconfigured(found.problems.found, loaded) from None
    return loaded


def default_place() -> Path:
    """Where the file is of whoever runs this.

    Raises: ConfigError, if there is no place for it.
    """
    # The system's file is not for others' daemons: its store is not theirs.
    if is_root():
        return SYSTEM_FILE
    directory = user_path("config", "kapla")
    if directory is None:
        raise ConfigError("there is no home directory for the settings: name a file")
    return directory / "kapla.toml"


def default_file() -> Path | None:
    """That file, if there is one."""
    try:
        path = default_place()
    except ConfigError:
        return None
    # Not `Path.is_file`, which raises where the directory may not be searched.
    return path if os.path.isfile(path) else None


class _Found:
    """What the sources say, one after the other."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.values: dict[str, object] = {}
        self.origins: dict[str, tuple[str, ...]] = {}
        self.peers: list[PeerSettings] = []
        self.failed: set[str] = set()

    def take(self, setting: Setting, value: object, where: str, read: Reader | None = None) -> None:
        """Take over a value. Of peers each source has some more: a flag makes no strangers."""
        self.failed.add(setting.field)
        with self.problems.at(where):
            result = (read or setting.read)(value)
            self.failed.discard(setting.field)
            if setting.field == "peers":
                self.take_peers(cast(Any, result), where)
            else:
                self.values[setting.field] = result
                self.origins[setting.field] = (where.partition(": ")[0],)

    def take_peers(self, peers: Sequence[PeerSettings], where: str) -> None:
        self.peers += peers
        self.origins["peers"] = (*self.origins.get("peers", ()), where)

    def take_file(self, file: SettingsFile | None) -> None:
        if file is None:
            return
        for key, value in file.values.items():
            setting = BY_KEY.get(key)
            if setting is None:
                guess = meant(key, BY_KEY) or f"; known are {', '.join(BY_KEY)}"
                self.problems.add(file.where(key), f"unknown key {key!r}{guess}")
            elif key == "peers" and _are_tables(value):
                self._take_tables(file, cast(Any, value))
            else:
                self.take(setting, value, f"{file.where(key)}: {key}")

    def _take_tables(self, file: SettingsFile, tables: Sequence[Mapping[str, Any]]) -> None:
        """Each for itself, so that each mistake has its line."""
        for number, table in enumerate(tables):
            try:
                peer = parse_peer(table)
            except WrongPeer as error:
                where = file.where("peers", number, *([error.key] if error.key else []))
                self.problems.add(f"{where}: peers", f"peer {number + 1}: {error}")
            else:
                self.take_peers([peer], file.where("peers", number))


def _take_flags(found: _Found, flags: Mapping[str, str | Sequence[str] | None]) -> None:
    left = dict(flags)
    for setting in SETTINGS:
        for flag in setting.flags:
            value = left.pop(flag.name.removeprefix("--").replace("-", "_"), None)
            if value is None or (flag.several and not value):
                continue
            found.take(setting, list(value) if flag.several else value, flag.name, flag.read)
    if left:
        raise TypeError(f"no setting has a flag {', '.join(left)}")


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _default_listen(environment: Mapping[str, str]) -> tuple[StoreUrl, ...]:
    path = default_socket(environment)
    try:
        return (parse_store_url(f"coap+unix://{quote(os.fsencode(path))}"),)
    except InvalidUrl as error:
        raise ConfigError(f"the default socket {path} cannot be used: {error}") from None

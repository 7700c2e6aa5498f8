"""What the daemon is told: TOML, then the environment, then flags; checked whole at load.

Unknown keys are errors: a misspelt quota must not pass for none.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import quote

from kapla.errors import ConfigError, InvalidUrl
from kapla.http.settings import parse_admin, parse_http
from kapla.lan.networks import Entry, parse_entries
from kapla.local_socket import SYSTEM_SOCKET, default_socket, is_root
from kapla.peer_config import (
    PeerSettings,
    check_peers,
    parse_known_peers,
    parse_peer_urls,
    parse_peers,
)
from kapla.sizes import parse_amount, parse_rate, parse_scrub_rate, parse_size, parse_store_size
from kapla.store_place import default_store
from kapla.urls import HttpEndpoint, StoreUrl, TlsEndpoint, UnixEndpoint, parse_store_url
from kapla.user_paths import user_path

__all__ = ["SYSTEM_SOCKET", "Config", "default_socket", "is_root", "load_config", "parse_size"]

Synchronous = Literal["normal", "full"]
WhenFull = Literal["evict", "refuse"]

_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of the daemon."""

    store: Path
    """The SQLite file; its directory is made when missing."""
    listen: tuple[StoreUrl, ...]
    """Where clients connect."""
    default_listen: bool = True
    """Whether `listen` is the default: then a missing group is a warning, not an error."""
    max_size: int | None = None
    """Bytes the database and its WAL may grow to. None: as the disk allows."""
    min_free: int | None = None
    """Bytes of the file system that the store leaves to others: it does not grow beyond."""
    when_full: WhenFull = "evict"
    """Whether what nobody keeps makes room for new blocks, or these are refused."""
    synchronous: Synchronous = "normal"
    """What an acknowledged block survives: a killed process, or with "full" a power cut too."""
    max_put_rate: int | None = None
    """Bytes a second that each user may put; TCP peers share one rate by listener. None: any."""
    max_stranger_rate: int | None = None
    """Bytes a second that the unnamed peers of a listener on TCP are given together. None: any."""
    peers: tuple[PeerSettings, ...] = ()
    """Whom we dial, and whom we know when they dial us."""
    advertise: bool = False
    """Whether listeners are announced on the local network."""
    discover: Literal["lan"] | None = None
    """Whether, and where, other daemons are looked for."""
    discover_networks: tuple[Entry, ...] = ()
    """Where those that are found are asked, whoever they are."""
    http: tuple[StoreUrl, ...] = ()
    """Where blocks that are lent are given to anybody by HTTP: TCP endpoints."""
    admin: StoreUrl | None = None
    """Where this machine is told of the daemon by HTTP: on the loopback interface, or a socket."""
    max_connections: int = 512
    """Connections at a time: each may cost a few MiB when its peer is slow."""
    max_pinned: int | None = None
    """Bytes that the pins of one user may hold. None: half of `max_size`, if there is that."""
    lend_cache: bool = True
    """Whether blocks that no pin has may be lent."""
    log_level: str = "info"
    scrub_rate: int = 2**20
    """Bytes a second that are read and hashed in the background: 2.5 TB in thirty days; 0: none."""
    rebuild_index: bool = False
    """Make the index and the totals anew from the blocks: a flag only, for one start."""


def _default_file() -> Path | None:
    # The system's file is not for others' daemons: its store is not theirs.
    path = Path("/etc/kapla/kapla.toml")
    if not is_root():
        directory = user_path("config", "kapla")
        if directory is None:
            return None
        path = directory / "kapla.toml"
    # Not `Path.is_file`, which raises where the directory may not be searched.
    return path if os.path.isfile(path) else None


def _parse_path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path is expected")
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise ValueError("there is no such user, or no home directory")
    path = Path(os.path.abspath(expanded))
    if not path.name:
        raise ValueError("the path of a file is expected")
    return path


def _parse_urls(value: object) -> tuple[StoreUrl, ...]:
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("a list of URLs is expected")
    urls = []
    for number, text in enumerate(texts, 1):
        try:
            url = parse_store_url(text)
        except InvalidUrl as error:
            raise ValueError(f"URL {number}: {error}") from None
        if isinstance(url.endpoint, HttpEndpoint):
            raise ValueError(
                f"URL {number}: a listener speaks CoAP, on coap+unix:// or coap+tcp://"
            )
        if url.store_path:
            raise ValueError(f"URL {number}: a listener serves the whole endpoint, not a path")
        if not isinstance(url.endpoint, UnixEndpoint) and (url.flags.mode or url.flags.group):
            raise ValueError(f"URL {number}: mode and group are for Unix sockets")
        if isinstance(url.endpoint, TlsEndpoint):
            _check_tls_listener(url, url.endpoint, number)
        urls.append(url)
    return tuple(urls)


def _check_tls_listener(url: StoreUrl, endpoint: TlsEndpoint, number: int) -> None:
    if endpoint.key is not None:
        raise ValueError(f"URL {number}: a listener has its own key, see --print-key")
    if url.flags.files is not None and url.flags.files.certificate is None:
        raise ValueError(f"URL {number}: ca is for listeners with cert and key")


def _parse_choice(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return parse


def _parse_switch(value: object) -> bool:
    # In the environment it is a text.
    texts = {"true": True, "false": False}
    if isinstance(value, str):
        value = texts.get(value)
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def _parse_count(value: object) -> int:
    # Not `int(value)`, which takes true, 2.7 and infinity in its own ways.
    if not re.fullmatch(r"[0-9]{1,6}", str(value)) or not 1 <= int(str(value)) <= 100_000:
        raise ValueError("a number from 1 to 100000 is expected")
    return int(str(value))


# Key in the file, variable in the environment, field, reader.
_SETTINGS: Final[tuple[tuple[str, str, str, Callable[[object], object]], ...]] = (
    ("store", "KAPLA_STORE", "store", _parse_path),
    ("listen", "KAPLA_LISTEN", "listen", _parse_urls),
    ("max-size", "KAPLA_MAX_SIZE", "max_size", parse_store_size),
    ("min-free", "KAPLA_MIN_FREE", "min_free", parse_amount),
    ("when-full", "KAPLA_WHEN_FULL", "when_full", _parse_choice("evict", "refuse")),
    ("synchronous", "KAPLA_SYNCHRONOUS", "synchronous", _parse_choice("normal", "full")),
    ("max-put-rate", "KAPLA_MAX_PUT_RATE", "max_put_rate", parse_rate),
    ("max-stranger-rate", "KAPLA_MAX_STRANGER_RATE", "max_stranger_rate", parse_rate),
    ("peers", "KAPLA_PEERS", "peers", parse_peers),
    ("advertise", "KAPLA_ADVERTISE", "advertise", _parse_switch),
    ("discover", "KAPLA_DISCOVER", "discover", _parse_choice("lan")),
    ("discover-networks", "KAPLA_DISCOVER_NETWORKS", "discover_networks", parse_entries),
    ("http", "KAPLA_HTTP", "http", parse_http),
    ("admin", "KAPLA_ADMIN", "admin", parse_admin),
    ("max-connections", "KAPLA_MAX_CONNECTIONS", "max_connections", _parse_count),
    ("scrub-rate", "KAPLA_SCRUB_RATE", "scrub_rate", parse_scrub_rate),
    ("max-pinned-bytes", "KAPLA_MAX_PINNED_BYTES", "max_pinned", parse_amount),
    ("lend-cache", "KAPLA_LEND_CACHE", "lend_cache", _parse_switch),
    ("log-level", "KAPLA_LOG_LEVEL", "log_level", _parse_choice(*_LEVELS)),
)


def load_config(
    *,
    file: str | None = None,
    store: str | None = None,
    listen: tuple[str, ...] = (),
    max_size: str | None = None,
    min_free: str | None = None,
    when_full: str | None = None,
    peer: tuple[str, ...] = (),
    known_peer: tuple[str, ...] = (),
    http: tuple[str, ...] = (),
    admin: str | None = None,
    debug: bool = False,
    rebuild_index: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Put all settings together; the arguments are the flags.

    Raises: ConfigError, naming the place.
    """
    path = file or environment.get("KAPLA_CONFIG") or _default_file()
    values: dict[str, object] = {}
    if path is not None:
        _read_file(Path(path), values)
    # Of peers each place has some more: a flag does not make those of the file strangers.
    peers = _taken(values, "peers")
    for _, variable, name, parse in _SETTINGS:
        if environment.get(variable):
            values[name] = _parsed(parse, environment[variable], f"${variable}")
    peers += _taken(values, "peers")
    flags = {
        "store": store,
        "max_size": max_size,
        "min_free": min_free,
        "when_full": when_full,
        "http": list(http) or None,
        "admin": admin,
    }
    for key, _, name, parse in _SETTINGS:
        if (flag := flags.get(name)) is not None:
            values[name] = _parsed(parse, flag, f"--{key}")
    if listen:
        values["listen"] = _parsed(_parse_urls, list(listen), "--listen")
    if peer:
        peers += cast(Any, _parsed(parse_peer_urls, list(peer), "--peer"))
    if known_peer:
        peers += cast(Any, _parsed(parse_known_peers, list(known_peer), "--known-peer"))
    check_peers(peers)
    if debug:
        values["log_level"] = "debug"
    default_listen = "listen" not in values
    if default_listen:
        values["listen"] = (_default_listener(environment),)
    if "store" not in values:
        values["store"] = default_store()
    config = replace(
        Config(store=Path(), listen=()),
        default_listen=default_listen,
        rebuild_index=rebuild_index,
        peers=tuple(peers),
        **cast(Any, values),
    )
    if config.discover_networks and config.discover is None:
        raise ConfigError('discover-networks needs discover = "lan": nobody is looked for')
    _check_sockets(config)
    return config


def _check_sockets(config: Config) -> None:
    """Whether each Unix socket has a path of its own."""
    taken = {config.store: "the store"}
    admin = () if config.admin is None else (config.admin,)
    for url in (*config.listen, *admin):
        if isinstance(url.endpoint, UnixEndpoint):
            path = url.endpoint.path
            if path in taken and (url is config.admin or path == config.store):
                raise ConfigError(f"{path} cannot be {taken[path]} and a socket at once")
            taken[path] = "a listener for CoAP"


def _taken(values: dict[str, object], name: str) -> list[Any]:
    """What is there under this name, which is there no longer."""
    return list(cast(Any, values.pop(name, ())))


def _default_listener(environment: Mapping[str, str]) -> StoreUrl:
    path = default_socket(environment)
    try:
        return parse_store_url(f"coap+unix://{quote(os.fsencode(path))}")
    except InvalidUrl as error:
        raise ConfigError(f"the default socket {path} cannot be used: {error}") from None


def _read_file(path: Path, values: dict[str, object]) -> None:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {key: (name, parse) for key, _, name, parse in _SETTINGS}
    for key, value in document.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
        name, parse = known[key]
        values[name] = _parsed(parse, value, f"{path}, {key}")


def _parsed(parse: Callable[[object], object], value: object, place: str) -> object:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None

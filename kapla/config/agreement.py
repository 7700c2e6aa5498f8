"""Whether settings that are sound alone go together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

from kapla.config.model import Config
from kapla.config.problems import Problems
from kapla.config.table import BY_FIELD
from kapla.database_url import DatabaseUrl
from kapla.urls import StoreUrl, TcpEndpoint, TlsEndpoint, UnixEndpoint

__all__ = ["check_agreement", "place_of"]

_OF_FILES: Final = {
    "min_free": "min-free is of a file's disk: max-size says how large a database may become",
    "scrub_rate": "scrub-rate is of a file: of a database kaplad --check looks at all blocks, and"
    " PostgreSQL at its own pages, with initdb --data-checksums",
}
"""What means nothing where the store is a database, and what to do instead."""

_NAMES = {"listen": "a listener", "http": "a place of http", "admin": "admin"}


class _Address(NamedTuple):
    host: IPv4Address | IPv6Address | str
    port: int

    def is_taken_by(self, other: _Address) -> bool:
        """Whether a second socket cannot be opened beside this one."""
        if self.port != other.port or not self.port:
            return False
        if self.host == other.host:
            return True
        if isinstance(self.host, str) or isinstance(other.host, str):
            return False
        # Sockets for all addresses of IPv6 leave those of IPv4 alone.
        is_any = self.host.is_unspecified or other.host.is_unspecified
        return is_any and self.host.version == other.host.version


def check_agreement(
    config: Config, origins: Mapping[str, tuple[str, ...]], problems: Problems
) -> None:
    """Look at all settings together."""
    if config.discover_networks and config.discover is None:
        problems.add(
            place_of("discover_networks", origins),
            'discover-networks needs discover = "lan": nobody is looked for',
        )
    if isinstance(config.store, DatabaseUrl):
        _check_database(config, origins, problems)
    _check_paths(config, origins, problems)
    _check_addresses(config, origins, problems)


def place_of(name: str, origins: Mapping[str, tuple[str, ...]]) -> str:
    """Where a field's value stands, as the readers of values name it; empty for a default."""
    found = origins.get(name)
    if not found:
        return ""
    where = ", ".join(found)
    return where if where.startswith(("$", "--")) else f"{where}: {BY_FIELD[name].key}"


def _check_database(
    config: Config, origins: Mapping[str, tuple[str, ...]], problems: Problems
) -> None:
    """Whether somebody set what a database does not have."""
    for name, reason in _OF_FILES.items():
        if name in origins:
            problems.add(place_of(name, origins), reason)
    if config.rebuild_index:
        problems.add(
            "--rebuild-index", "that is of a file: in a database it is REINDEX, and kaplad --check"
        )


def _check_paths(
    config: Config, origins: Mapping[str, tuple[str, ...]], problems: Problems
) -> None:
    """Whether each Unix socket has a path of its own."""
    store = config.store
    # One without a name could not be read.
    is_file = isinstance(store, Path) and store.name
    taken = {store: "the store"} if is_file else {}
    for name, url in _places(config):
        if isinstance(url.endpoint, UnixEndpoint):
            path = url.endpoint.path
            if path in taken:
                problems.add(
                    place_of(name, origins),
                    f"{path} is {taken[path]} already: a socket has a path of its own",
                )
            taken[path] = _NAMES[name]


def _check_addresses(
    config: Config, origins: Mapping[str, tuple[str, ...]], problems: Problems
) -> None:
    """Whether each listener has an address and a port of its own."""
    taken: list[tuple[_Address, str]] = []
    for name, url in _places(config):
        if not isinstance(url.endpoint, TcpEndpoint | TlsEndpoint):
            continue
        address = _Address(_host(url.endpoint.host), url.endpoint.port)
        for other, what in taken:
            if address.is_taken_by(other):
                problems.add(
                    place_of(name, origins),
                    f"{url.endpoint} is taken: {what} has port {address.port} already",
                )
                break
        taken.append((address, _NAMES[name]))


def _host(host: str) -> IPv4Address | IPv6Address | str:
    try:
        return ip_address(host)
    except ValueError:
        return host.lower()


def _places(config: Config) -> Iterator[tuple[str, StoreUrl]]:
    """All that is listened on, by fields."""
    yield from (("listen", url) for url in config.listen)
    yield from (("http", url) for url in config.http)
    if config.admin is not None:
        yield "admin", config.admin

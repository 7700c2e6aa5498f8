"""Settings of peers: the tables `[[peers]]`, and the flags that are short for one.

A peer is named once: by the URL where we dial it, which may hold its key, or by the key of somebody
who dials us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kapla.errors import ConfigError
from kapla.guessing import meant
from kapla.identity.key import PeerKey
from kapla.sizes import parse_rate
from kapla.urls import FileEndpoint, HttpEndpoint, StoreUrl, parse_store_url

__all__ = [
    "PeerSettings",
    "WrongPeer",
    "check_peers",
    "parse_known_peers",
    "parse_peer",
    "parse_peer_urls",
    "parse_peers",
]

_RIGHTS: Final = ("get", "lend", "put", "stat", "relay")
_DEFAULT_RIGHTS: Final = frozenset({"lend"})
# Each that we dial is a connection, and each is asked.
_MOST_PEERS: Final = 256
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One peer, as it is configured."""

    url: StoreUrl | None = None
    """Where we dial it; None: it dials us."""
    key: PeerKey | None = None
    """Its name; None: it is known by its URL alone."""
    rights: frozenset[str] = _DEFAULT_RIGHTS
    """What it may do here: some of get, lend, put, stat, relay."""
    max_rate: int | None = None
    """Bytes a second that it is given. None: any."""
    name: str | None = None
    """What people call it."""

    def __str__(self) -> str:
        return str(self.url if self.key is None else self.key)


class WrongPeer(ValueError):
    """A table is no peer; `key` is which of its keys is wrong, None if it is the whole."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.key = key


def parse_peers(value: object) -> tuple[PeerSettings, ...]:
    """Read what a file has, the tables, or what the environment has: URLs of peers that we dial.

    Raises: ValueError, naming the peer by its number.
    """
    if isinstance(value, str):
        return parse_peer_urls(value.split())
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("tables are expected, each under [[peers]]")
    return tuple(_numbered("peer", parse_peer, value))


def parse_peer(table: Mapping[str, Any]) -> PeerSettings:
    """Read one table.

    Raises: WrongPeer.
    """
    for key in table:
        if key not in _KEYS:
            guess = meant(key, _KEYS) or f"; known are {', '.join(_KEYS)}"
            raise WrongPeer(f"unknown key {key!r}{guess}", key)
    if ("url" in table) == ("key" in table):
        raise WrongPeer("one of url (we dial it) and key (it dials us) is needed, and not both")
    values: dict[str, Any] = {}
    for key, value in table.items():
        field, parse = _KEYS[key]
        try:
            values[field] = parse(value)
        except ValueError as error:
            raise WrongPeer(f"{key}: {error}", key) from None
    if "url" in values:
        values["key"] = _key_in(values["url"])
        if isinstance(values["url"].endpoint, HttpEndpoint):
            _check_server(values)
    return PeerSettings(**values)


def parse_peer_urls(value: object) -> tuple[PeerSettings, ...]:
    """Read URLs of peers that we dial.

    Raises: ValueError, naming the URL by its number.
    """
    return tuple(_numbered("URL", _dialled, _several(value, "URLs")))


def parse_known_peers(value: object) -> tuple[PeerSettings, ...]:
    """Read keys of peers that dial us, as `parse_peer_urls`."""
    return tuple(_numbered("key", _known, _several(value, "keys")))


def check_peers(peers: Iterable[PeerSettings], own: PeerKey | None = None) -> None:
    """Look at all peers together; `own`: our own key, once that is known.

    Raises: ConfigError.
    """
    seen: set[object] = set()
    for count, peer in enumerate(peers, 1):
        if count > _MOST_PEERS:
            raise ConfigError(f"peers: more than {_MOST_PEERS}")
        if peer.key is not None and peer.key == own:
            raise ConfigError(f"peers: {peer.key} is this daemon's own key")
        named = [one for one in (peer.key, _place(peer.url)) if one is not None]
        for one in named:
            if one in seen:
                raise ConfigError(f"peers: {one} is there twice")
        seen.update(named)


def _several(texts: object, what: str) -> list[str]:
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"a list of {what} is expected")
    return texts


def _numbered(
    what: str, parse: Callable[[Any], PeerSettings], values: list[Any]
) -> Iterable[PeerSettings]:
    for number, value in enumerate(values, 1):
        try:
            yield parse(value)
        except ValueError as error:
            raise ValueError(f"{what} {number}: {error}") from None


def _dialled(text: str) -> PeerSettings:
    url = _parse_url(text)
    if isinstance(url.endpoint, HttpEndpoint):
        return PeerSettings(url, rights=frozenset())
    return PeerSettings(url, _key_in(url))


def _known(text: str) -> PeerSettings:
    return PeerSettings(key=_parse_key(text))


def _parse_url(value: object) -> StoreUrl:
    """Where a peer is: an endpoint, since a daemon has one store."""
    url = parse_store_url(_text(value))
    if isinstance(url.endpoint, HttpEndpoint):
        return url
    if isinstance(url.endpoint, FileEndpoint):
        raise ValueError("a file is no peer: a daemon that serves it may be one")
    if url.store_path:
        raise ValueError("a daemon serves its whole endpoint, not a path")
    flags = url.flags
    if (flags.allow, flags.mode, flags.group) != (None, None, None):
        raise ValueError("the URL of a peer has no flags: what it may do is in its rights")
    return url


def _check_server(values: dict[str, Any]) -> None:
    """Of a server of HTTP: it asks nothing, so that nothing can be allowed to it."""
    for field in ("rights", "max_rate"):
        if field in values:
            key = field.replace("_", "-")
            raise WrongPeer(f"{key}: over HTTP a peer is asked, and never asks", key)
    values["rights"] = frozenset()


def _place(url: StoreUrl | None) -> object:
    """Where a peer is: of servers of HTTP there may be several at one endpoint."""
    if url is None:
        return None
    return url if isinstance(url.endpoint, HttpEndpoint) else url.endpoint


def _key_in(url: StoreUrl) -> PeerKey | None:
    return getattr(url.endpoint, "key", None)


def _parse_key(value: object) -> PeerKey:
    return PeerKey.parse(_text(value))


def _parse_rights(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError(f"a list of rights is expected: some of {', '.join(_RIGHTS)}")
    for right in value:
        if right not in _RIGHTS:
            raise ValueError(f"{right!r} is no right; there are {', '.join(_RIGHTS)}")
    return frozenset(value)


def _parse_name(value: object) -> str:
    name = _text(value)
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError(f"a name of 1 to {_LONGEST_NAME} printable characters is expected")
    return name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is expected")
    return value


# Key in the table, field, reader.
_KEYS: Final[Mapping[str, tuple[str, Callable[[object], object]]]] = {
    "url": ("url", _parse_url),
    "key": ("key", _parse_key),
    "rights": ("rights", _parse_rights),
    "max-rate": ("max_rate", parse_rate),
    "name": ("name", _parse_name),
}

"""Where the daemon's doors by HTTP are, as its settings tell.

127.0.0.1:8080, [::1]:8080, example.org:8080      a host or address, and a port
unix:/run/kapla/admin.sock                        a Unix socket, of `admin` alone
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from kapla.errors import InvalidUrl
from kapla.urls import StoreUrl, TcpEndpoint, UnixEndpoint, format_store_url, parse_store_url

__all__ = ["format_place", "is_loopback", "parse_admin", "parse_http"]

_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MOST: Final = 16
"""Places of `http`."""
_UNIX: Final = "unix:"
_LOCALHOST: Final = "localhost"
_LONGEST_PATH: Final = 107


def parse_http(value: object) -> tuple[StoreUrl, ...]:
    """Read `http`: a place, several with spaces between them, or a list.

    Raises: ValueError.
    """
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("a place as 127.0.0.1:8080 is expected, or a list of them")
    if len(texts) > _MOST:
        raise ValueError(f"{len(texts)} places; there may be {_MOST}")
    places = tuple(_tcp(text) for text in texts)
    fixed = [place for place in places if _port(place)]
    if len(set(fixed)) < len(fixed):
        raise ValueError("a place is there twice")
    return places


def parse_admin(value: object) -> StoreUrl:
    """Read `admin`: a place on the loopback interface, or a Unix socket.

    Raises: ValueError.
    """
    if not isinstance(value, str):
        raise ValueError("a place as 127.0.0.1:9080 or unix:/run/kapla/admin.sock is expected")
    if value.startswith(_UNIX):
        return _unix(value.removeprefix(_UNIX).removeprefix("//"))
    place = _tcp(value)
    assert isinstance(place.endpoint, TcpEndpoint)
    host = place.endpoint.host
    if host.lower() != _LOCALHOST and not is_loopback(host):
        raise ValueError(
            f"{host} is not on the loopback interface: 127.0.0.1, [::1], localhost or unix:/PATH is"
        )
    return place


def format_place(place: StoreUrl) -> str:
    """Write a place as these two read it."""
    if isinstance(place.endpoint, UnixEndpoint):
        return f"{_UNIX}{place.endpoint.path}"
    return format_store_url(place).partition("//")[2]


def is_loopback(address: str) -> bool:
    """Whether an address is of the loopback interface; a name never is."""
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _tcp(text: str) -> StoreUrl:
    found = _PLACE.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError("a host or address and a port are expected, as 127.0.0.1:8080, [::1]:8080")
    try:
        # Which tells a host from what is none.
        return parse_store_url(f"coap+tcp://{found[1]}:{found[2]}")
    except InvalidUrl:
        raise ValueError("this is no host name or address") from None


def _port(place: StoreUrl) -> int:
    assert isinstance(place.endpoint, TcpEndpoint)
    return place.endpoint.port


def _unix(path: str) -> StoreUrl:
    place = Path(os.path.abspath(path))
    if not path.startswith("/") or path.endswith("/") or "\0" in path or not place.name:
        raise ValueError("the path of a socket is absolute and names a file")
    if (length := len(os.fsencode(path))) > _LONGEST_PATH:
        raise ValueError(
            f"the path of a socket has {length} bytes; the system takes {_LONGEST_PATH}"
        )
    return StoreUrl(UnixEndpoint(place))

"""Which proxy a server is asked by, as the environment says: what curl makes of it, mostly.

`http_proxy` and `https_proxy` are for servers of these schemes, `all_proxy` for both; `no_proxy`
lists those that are asked directly. All but the first may be written in capitals too: HTTP_PROXY
is what a CGI program gets from a header `Proxy`. A proxy that makes no sense is an error when it is
to be used, and no reason to go around it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from guix_glue.servers.url import InvalidServer, Origin, parse_address

__all__ = ["NO_PROXIES", "Proxies", "Proxy"]

_FOR_SCHEME: Final = {
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
_BYPASS: Final = ("no_proxy", "NO_PROXY")
# HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT; an address of IPv6 without brackets has no port.
_ENTRY: Final = re.compile(r"\[(?P<address>[^]]*)\](?::(?P<a>\d+))?|(?P<host>[^:]*):(?P<b>\d+)")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy listens, and what it is told about who asks."""

    origin: Origin
    authorization: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """What may be shown of it."""
        return f"the proxy {self.origin.netloc}"


class Proxies:
    """What the environment says; see `from_environ`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        # They may hold passwords: nothing shows them.
        self._variables = variables
        listed = next((variables[name] for name in _BYPASS if name in variables), "")
        self._bypass = tuple(filter(None, re.split(r"[,\s]+", listed.lower())))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Proxies:
        """Take what is about proxies; what is empty is as if it were not set."""
        names = {*_FOR_SCHEME["http"], *_FOR_SCHEME["https"], *_BYPASS}
        return cls({name: environ[name] for name in names if environ.get(name)})

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy to ask a server by; None to ask it directly.

        Raises: InvalidServer, if there is one that cannot be used.
        """
        named = (name for name in _FOR_SCHEME[origin.scheme] if name in self._variables)
        name = next(named, None)
        if name is None or any(_is_listed(entry, origin) for entry in self._bypass):
            return None
        url = self._variables[name].strip()
        try:
            return Proxy(*parse_address(url if "://" in url else f"http://{url}"))
        except InvalidServer as error:
            raise InvalidServer(f"the proxy of {name} cannot be used: {error}") from None


NO_PROXIES: Final = Proxies({})
"""All servers are asked directly."""


def _is_listed(entry: str, origin: Origin) -> bool:
    """Whether an entry of `no_proxy`, in small letters, means a server."""
    match = _ENTRY.fullmatch(entry)
    host = entry if match is None else match["address"] or match["host"] or ""
    port = None if match is None else match["a"] or match["b"]
    if port is not None and int(port) != origin.port:
        return False
    with suppress(ValueError):
        address = ip_address(origin.name)
        with suppress(ValueError):
            return address in ip_network(host, strict=False)
        # An address has no domain that it could be in.
        return host == "*"
    name = host.removeprefix("*").lstrip(".").removesuffix(".")
    asked = origin.name.removesuffix(".")
    return host == "*" or (name != "" and (asked == name or asked.endswith(f".{name}")))

"""A substitute server's URL, taken apart once: where to connect, what to ask, what may be shown.

A URL may hold a user name and a password. They go to that very server, as Basic authentication,
and nowhere else: not to where it redirects, not into any message. The address of a host on the same
link may have a zone, `[fe80::1%25eth0]` (RFC 6874): it is for connecting only, not for the server.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit

from guix_glue.errors import GuixError

__all__ = [
    "REDIRECT_CODES",
    "InvalidServer",
    "Origin",
    "Server",
    "origin_of",
    "parse_address",
    "parse_server",
    "parse_url",
    "redirect_target",
]

REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
"""The status of an answer that only says where else to ask."""

_LONGEST: Final = 4096
_PORTS: Final = {"http": 80, "https": 443}
_PLAIN: Final = re.compile(r"[!-~]+", re.ASCII)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_BRACKETED: Final = re.compile(r"\[[^][]*\](?::[0-9]*)?")
# No interface has a longer name; and no other letters, so that it can stand in a URL as it is.
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]{1,15}")


class InvalidServer(GuixError, ValueError):
    """A URL cannot be used. The message does not hold it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect. `scheme` is http or https; `host` may end in `%` and a zone."""

    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """The host as others know it, without the zone: what its certificate is for."""
        return self.host.partition("%")[0]

    @property
    def netloc(self) -> str:
        """For the header `Host`."""
        return self._with_port(self.name)

    @property
    def url(self) -> str:
        """The URL without a path."""
        return f"{self.scheme}://{self._with_port(self.host.replace('%', '%25'))}"

    def _with_port(self, host: str) -> str:
        host = f"[{host}]" if ":" in host else host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Server:
    """A substitute server, or a directory (`origin` is None) that is laid out like one.

    `url` and `shown` are the URL without user and password and without a slash at its end; `path`
    is where the server's own names begin, as it stands in the URL (for a directory: decoded).
    """

    url: str
    origin: Origin | None
    path: str
    authorization: str | None = field(default=None, repr=False)
    nearby: bool = field(default=False, compare=False)
    """Whether it was found on the local network, named by nobody: it leads only to itself."""

    @property
    def shown(self) -> str:
        """What may be shown of it."""
        return self.url

    def narinfo_path(self, hash_part: str) -> str:
        """The path of a narinfo, from the root of its host."""
        return f"{self.path}/{hash_part}.narinfo"

    def locate(self, url: str) -> str:
        """The full URL of what a narinfo of this server names.

        Raises: InvalidServer, if it leads to where such a server may not send us.
        """
        if _ABSOLUTE.match(url):
            parts = _split(url)
            if parts.scheme not in _PORTS or "@" in parts.netloc:
                raise InvalidServer("the URL of a nar is neither http nor https")
            if _origin(parts) != self.origin and self.nearby:
                raise InvalidServer("a server that was found names nars of others")
            return url
        if not _PLAIN.fullmatch(url) or "#" in url or len(url) > _LONGEST:
            raise InvalidServer("the URL of a nar holds what cannot be asked for")
        if self.origin is None and ".." in url.split("/"):
            raise InvalidServer("the URL of a nar leads out of its directory")
        return f"{self.url}/{url.lstrip('/')}"

    def owns(self, url: str) -> bool:
        """Whether a full URL leads to this very server, which alone learns the password."""
        return self.origin is not None and self.origin == origin_of(url)


def parse_server(url: str) -> Server:
    """Take a substitute URL apart: http, https or file.

    Raises: InvalidServer.
    """
    parts = _split(url)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment:
        raise InvalidServer("a substitute URL has neither query nor fragment")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidServer("file:// takes an absolute path")
        return Server(f"file://{path}", None, _directory(path))
    if parts.scheme not in _PORTS:
        raise InvalidServer("a substitute URL begins with http://, https:// or file://")
    origin = _origin(parts)
    return Server(f"{origin.url}{path}", origin, path, _basic(parts))


def parse_address(url: str) -> tuple[Origin, str | None]:
    """Where to connect for an http or https URL, and the authorization for that.

    Raises: InvalidServer.
    """
    parts = _split(url)
    if parts.scheme not in _PORTS:
        raise InvalidServer("it begins with neither http:// nor https://")
    return _origin(parts), _basic(parts)


def parse_url(url: str) -> tuple[Origin, str]:
    """Where to connect for an http or https URL, and what to ask for: path with query.

    Raises: InvalidServer.
    """
    parts = _split(url)
    if parts.scheme not in _PORTS:
        raise InvalidServer("a URL is neither http nor https")
    return _asked(parts)


def redirect_target(url: str, location: str) -> tuple[Origin, str]:
    """Where an answer of `url` sends us: host, and path with query.

    Raises: InvalidServer; also for a step from https to http.
    """
    if len(location) > _LONGEST:
        raise InvalidServer("the server redirects to an overlong URL")
    try:
        target = urljoin(url, location)
    except ValueError:
        raise InvalidServer("the server redirects to what is no URL") from None
    parts = _split(target)
    if url.startswith("https:") and parts.scheme == "http":
        raise InvalidServer("the server redirects from https to http")
    if parts.scheme not in _PORTS:
        raise InvalidServer("the server redirects to what is neither http nor https")
    return _asked(parts)


def _split(url: str) -> SplitResult:
    if not 0 < len(url) <= _LONGEST or not _PLAIN.fullmatch(url):
        raise InvalidServer("a URL is empty, too long, or not printable ASCII without blanks")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidServer("a URL makes no sense") from None
    return parts


def _asked(parts: SplitResult) -> tuple[Origin, str]:
    query = f"?{parts.query}" if parts.query else ""
    return _origin(parts), (parts.path or "/") + query


def _origin(parts: SplitResult) -> Origin:
    host, percent, zone = (parts.hostname or "").partition("%")
    # A name whose parts are empty or overlong cannot be asked of a resolver.
    if not _HOST.fullmatch(host) or not all(
        0 < len(label) < 64 for label in host.removesuffix(".").split(".")
    ):
        raise InvalidServer("a URL names no host")
    authority = parts.netloc.rpartition("@")[2]
    if ":" in host and not _BRACKETED.fullmatch(authority):
        # Python passes over what else stands there.
        raise InvalidServer("a URL names no host")
    if percent:
        host = f"{host}%{_zone(host, zone)}"
    return Origin(parts.scheme, host, parts.port or _PORTS[parts.scheme])


def _zone(host: str, text: str) -> str:
    """RFC 6874 has a zone behind `%25`; many write `%` alone."""
    encoded = text.startswith("25") and len(text) > 2
    zone = unquote(text[2:]) if encoded else text
    if ":" not in host or not _ZONE.fullmatch(zone):
        raise InvalidServer("a URL has a zone that makes no sense")
    return zone


def origin_of(url: str) -> Origin | None:
    """Where to connect for a full URL; None if it is neither http nor https.

    Raises: InvalidServer, if it names no host.
    """
    parts = urlsplit(url)
    return _origin(parts) if parts.scheme in _PORTS else None


def _basic(parts: SplitResult) -> str | None:
    user, found, _ = parts.netloc.rpartition("@")
    if not found:
        return None
    name, _, password = user.partition(":")
    plain = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return "Basic " + b64encode(plain).decode("ascii")


def _directory(path: str) -> str:
    try:
        directory = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidServer("file:// takes a path in UTF-8") from None
    if "\0" in directory:
        raise InvalidServer("file:// takes a path without NUL")
    return directory

"""Store and listener URLs: one grammar, read by both ends.

    coap+unix:///run/eris.sock            a socket, the endpoint-wide store
    coap+unix://%2Frun%2Feris.sock/a/b    a socket (percent-encoded), the store /a/b
    coap+tcp://%2Frun%2Feris.sock/a/b     the same, as libcoap writes it (also coap://%2F…)
    coap+tcp://host[:port][/a/b]          TCP, port 5683
    coaps+tcp://host[:port][/a/b]         TLS, port 5684, with an ordinary certificate
    coaps+tcp://host[:port]#ed25519:…     TLS with whoever has this key, and nobody else
    http://host[:port][/prefix]           blocks by HTTP, to be read only: N2R below the prefix
    https://host[:port][/prefix]          the same under TLS, with an ordinary certificate
    ipfs+http://, ipfs+https://           the same of a trustless gateway of IPFS
    file:///var/lib/blocks.sqlite         a store's own file, without a daemon

A path of `/` means the endpoint-wide store. Flags may follow as a query, `get`, `lend`, `put`,
`stat`, `admin`, `mode=0660`, `group=NAME`: they say what the listener allows, and a client that is
given such a URL keeps to them. Those of TLS, `cert=FILE`, `key=FILE`, `ca=FILE`, are for the end
that is given the URL; URLs of HTTP have none, and those of files `get` and `put`. The path of a
store may act as a capability, so it is never shown; those of a socket and of a file are none.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from kapla.errors import InvalidUrl
from kapla.identity.files import CertificateFiles
from kapla.identity.key import PeerKey

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TLS_PORT",
    "NO_STORE",
    "Endpoint",
    "FileEndpoint",
    "Flags",
    "HttpEndpoint",
    "StoreUrl",
    "TcpEndpoint",
    "TlsEndpoint",
    "UnixEndpoint",
    "format_store_url",
    "parse_store_url",
]

DEFAULT_PORT: Final = 5683
DEFAULT_TLS_PORT: Final = 5684

NO_STORE: Final = "none"
"""In the place of store URLs: that there is no store, not even where one usually is."""

# The kernel's sun_path holds 108 bytes, one of them the final NUL.
_MAX_SOCKET_PATH: Final = 107
_LONGEST_URL: Final = 4096
_RIGHTS: Final = ("get", "lend", "put", "stat", "admin")
_FILES: Final = {"cert": "certificate", "key": "key", "ca": "ca"}
_HTTP: Final = ("http", "https", "ipfs+http", "ipfs+https")
_HTTP_PORT, _HTTPS_PORT = 80, 443
_HOST: Final = re.compile(r"[A-Za-z0-9._~:%-]+")


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """A Unix stream socket."""

    path: Path

    def __str__(self) -> str:
        return f"Unix socket {self.path}"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A TCP host (name or address) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"TCP {_authority(self)}"


@dataclass(frozen=True, slots=True)
class TlsEndpoint:
    """A TCP host and port where TLS is spoken; `key` is who must be there, None: see the host."""

    host: str
    port: int
    key: PeerKey | None = None

    def __str__(self) -> str:
        return f"TLS {_authority(self)}"


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """A server that gives blocks over HTTP, under TLS or not; by N2R, or as a gateway of IPFS."""

    host: str
    port: int
    is_tls: bool = False
    is_gateway: bool = False

    def __str__(self) -> str:
        scheme = "HTTPS" if self.is_tls else "HTTP"
        return f"{'IPFS gateway, ' if self.is_gateway else ''}{scheme} {_authority(self)}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL of HTTP begins."""
        return f"http{'s' if self.is_tls else ''}://{_authority(self)}"


@dataclass(frozen=True, slots=True)
class FileEndpoint:
    """The SQLite file of a store, which is used as it lies there."""

    path: Path

    def __str__(self) -> str:
        return f"file {self.path}"


Endpoint = UnixEndpoint | TcpEndpoint | TlsEndpoint | HttpEndpoint | FileEndpoint


def _authority(endpoint: TcpEndpoint | TlsEndpoint | HttpEndpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


@dataclass(frozen=True, slots=True)
class Flags:
    """What the query of a URL says. `allow` is None where it names no right."""

    allow: frozenset[str] | None = None
    mode: int | None = None
    group: str | None = None
    files: CertificateFiles | None = None


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where a store is. `store_path` is empty for the endpoint-wide store."""

    endpoint: Endpoint
    store_path: tuple[str, ...] = field(default=(), repr=False)
    flags: Flags = Flags()
    others: tuple[StoreUrl, ...] = ()
    """Where the same blocks and pins are too: see `kapla.given_urls`."""

    def __str__(self) -> str:
        return " or ".join(str(url.endpoint) for url in (self, *self.others))

    @property
    def members(self) -> tuple[StoreUrl, ...]:
        """Each place by itself."""
        return (replace(self, others=()), *self.others)

    def allows(self, right: str) -> bool:
        """Whether the flags let a client do this: one that is lent to gets, too."""
        allow = self.flags.allow
        return allow is None or right in allow or (right == "get" and "lend" in allow)


def parse_store_url(text: str) -> StoreUrl:
    """Read a store URL.

    Raises: InvalidUrl, with the reason but without the URL.
    """
    if len(text) > _LONGEST_URL:
        raise InvalidUrl(f"a store URL is longer than {_LONGEST_URL} characters")
    if not text.isprintable() or " " in text:
        raise InvalidUrl("a store URL holds white space or a control character")
    if "|" in text:
        raise InvalidUrl("a | stands between stores of a group; in a path it is written %7C")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise InvalidUrl("not a URL: its host makes no sense") from None
    if parts.scheme != "coaps+tcp" and parts.fragment:
        raise InvalidUrl("a store URL has no fragment, but for the key of coaps+tcp://")
    if parts.scheme in _HTTP:
        return _http_url(parts)
    flags = _parse_flags(parts.query)
    if parts.scheme != "coaps+tcp" and flags.files is not None:
        raise InvalidUrl("the flags cert, key and ca are for coaps+tcp://")
    if parts.scheme == "file":
        return _file_url(parts, flags)
    # `hostname` would lower-case a socket path; the netloc is taken as it stands.
    netloc = parts.netloc
    _check_no_user(netloc)
    endpoint: Endpoint
    if parts.scheme == "coap+unix" and not netloc:
        path = _decode(parts.path, "the socket path")
        return StoreUrl(_unix_endpoint(path), (), flags)
    if parts.scheme in ("coap+unix", "coap+tcp", "coap") and netloc[:3].lower() == "%2f":
        endpoint = _unix_endpoint(_decode(netloc, "the socket path"))
        return StoreUrl(endpoint, _store_path(parts.path), flags)
    if parts.scheme == "coap+tcp":
        endpoint = TcpEndpoint(*_host_and_port(parts, DEFAULT_PORT))
        return StoreUrl(endpoint, _store_path(parts.path), flags)
    if parts.scheme == "coaps+tcp":
        key = _parse_key(parts.fragment) if "#" in text else None
        _check_files(flags.files, key)
        endpoint = TlsEndpoint(*_host_and_port(parts, DEFAULT_TLS_PORT), key)
        return StoreUrl(endpoint, _store_path(parts.path), flags)
    if parts.scheme == "coap+unix":
        raise InvalidUrl("coap+unix:// takes an absolute path, as in coap+unix:///run/x.sock")
    if parts.scheme in ("coap", "coaps", "coap+ws", "coaps+ws"):
        raise InvalidUrl(
            f"{parts.scheme}:// is not supported; coap+unix://, coap+tcp:// and coaps+tcp:// are,"
            " file:// for a store's own file, and http://, https:// and ipfs+http:// to read from"
        )
    raise InvalidUrl(_way_to_write(text))


def _http_url(parts: SplitResult) -> StoreUrl:
    """A server of blocks, which takes none."""
    _check_no_user(parts.netloc)
    if parts.query:
        raise InvalidUrl(f"{parts.scheme}:// takes no flags: what it gives can be read, no more")
    kind, _, scheme = parts.scheme.rpartition("+")
    is_tls = scheme == "https"
    host, port = _host_and_port(parts, _HTTPS_PORT if is_tls else _HTTP_PORT)
    if "%" in host:
        raise InvalidUrl(f"{parts.scheme}:// takes a host name or address without escapes")
    prefix = _store_path(parts.path.removesuffix("/"))
    if "." in prefix or ".." in prefix:
        raise InvalidUrl("the path of a store has no . or ..")
    endpoint = HttpEndpoint(host, port, is_tls, kind == "ipfs")
    return StoreUrl(endpoint, prefix, Flags(frozenset({"get"})))


def _file_url(parts: SplitResult, flags: Flags) -> StoreUrl:
    """A file of this machine: nobody else can be meant by a host."""
    path = _decode(parts.path, "the path of the file")
    is_named = path.startswith("/") and path.rpartition("/")[2] not in ("", ".", "..")
    if parts.netloc not in ("", "localhost") or not is_named:
        raise InvalidUrl("file:// takes the whole path of a file, as in file:///srv/blocks.sqlite")
    if not (flags.allow or frozenset()) <= {"get", "put"} or flags.mode or flags.group:
        raise InvalidUrl("file:// has no flags but get and put")
    return StoreUrl(FileEndpoint(Path(path)), (), flags)


def _check_no_user(netloc: str) -> None:
    if "@" in netloc:
        raise InvalidUrl("a store URL has no user name")


def _way_to_write(text: str) -> str:
    """What is to be done to what is no URL at all."""
    if text.startswith("/"):
        return (
            "this is a path; as a store URL it begins with coap+unix:// in front of its slash, or"
            " with file:// if it is a store's own file"
        )
    if text.startswith((".", "~")):
        return "this is a path; a store URL is coap+unix:// and the whole path, from its slash on"
    if re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]+", text):
        return "this is a host and port; as a store URL it begins with coap+tcp:// in front of them"
    return "a store URL begins with coap+unix://, coap+tcp:// or file://"


def _host_and_port(parts: SplitResult, default: int) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidUrl("the port is not a number from 0 to 65535") from None
    # libcoap would take an escaped slash for the beginning of a socket's path.
    is_host = host and _HOST.fullmatch(host) and host[:3].lower() != "%2f"
    if not host or not is_host or not _has_labels(host):
        raise InvalidUrl(f"{parts.scheme}:// takes a host name or address")
    return host, default if port is None else port


def _parse_key(fragment: str) -> PeerKey:
    # An empty one too: what was to stand there is missing, and nobody else is to be trusted.
    try:
        return PeerKey.parse(fragment)
    except ValueError as error:
        raise InvalidUrl(f"what follows the # of a store URL is a key: {error}") from None


def _check_files(files: CertificateFiles | None, key: PeerKey | None) -> None:
    """Whether these files say what certificates are shown, and which are accepted."""
    if files is None:
        return
    if key is not None:
        if files.certificate or files.ca:
            raise InvalidUrl("where a key is named only that counts: cert and ca say nothing there")
    elif (files.certificate is None) != (files.key is None):
        raise InvalidUrl("the flags cert and key go together")


def _has_labels(host: str) -> bool:
    """Whether a resolver can be asked: Python's raises on other names."""
    return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


def _unix_endpoint(path: str) -> UnixEndpoint:
    if not path.startswith("/") or path.endswith("/"):
        raise InvalidUrl("the path of a socket is absolute and names a file")
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH:
        raise InvalidUrl(
            f"the path of a socket has {length} bytes; the system takes {_MAX_SOCKET_PATH} at most"
        )
    return UnixEndpoint(Path(path))


def _store_path(path: str) -> tuple[str, ...]:
    if path in ("", "/"):
        return ()
    components = tuple(
        _decode(component, "the store path") for component in path.removeprefix("/").split("/")
    )
    if any(not component or len(component.encode()) > 255 for component in components):
        raise InvalidUrl("the store path has an empty or overlong component")
    return components


def _decode(text: str, what: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise InvalidUrl(f"{what} holds a percent sign that begins no escape")
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidUrl(f"{what} is not UTF-8") from None
    if "\0" in decoded:
        raise InvalidUrl(f"{what} holds a NUL")
    return decoded


def _parse_flags(query: str) -> Flags:
    allow: set[str] | None = None
    mode: int | None = None
    group: str | None = None
    files: dict[str, Path] = {}
    for item in query.split("&") if query else ():
        name, _, value = item.partition("=")
        if name in _RIGHTS and not value:
            allow = (allow or set()) | {name}
        elif name == "mode" and re.fullmatch(r"0?[0-7]{3}", value):
            mode = int(value, 8)
        elif name == "group" and value:
            group = _decode(value, "the group")
        elif name in _FILES and value:
            files[_FILES[name]] = _file(name, value)
        else:
            # Only its name, and only if it is one: what stands there may be a part of a secret.
            shown = f"the flag {name}" if re.fullmatch(r"[a-z]{1,10}", name) else "a flag"
            known = ", ".join((*_RIGHTS, "mode=0660", "group=NAME", "cert=", "key=", "ca=FILE"))
            raise InvalidUrl(f"{shown} is none of {known}")
    return Flags(
        None if allow is None else frozenset(allow),
        mode,
        group,
        CertificateFiles(**files) if files else None,
    )


def _file(flag: str, value: str) -> Path:
    path = _decode(value, f"the flag {flag}")
    if not path.startswith("/") or path.endswith("/"):
        raise InvalidUrl(f"the flag {flag} takes the absolute path of a file")
    return Path(path)


def format_store_url(url: StoreUrl) -> str:
    """Write a store URL as `parse_store_url` reads it, path and all, without what it allows.

    It may be a capability: not for messages.
    """
    if url.others:
        return "|".join(map(format_store_url, url.members))
    endpoint = url.endpoint
    path = "".join("/" + quote(component, safe="") for component in url.store_path)
    if isinstance(endpoint, UnixEndpoint):
        # With a store path behind it the socket's own slashes are escaped.
        socket = quote(os.fsencode(endpoint.path), safe="" if path else "/")
        return f"coap+unix://{socket}{path}"
    if isinstance(endpoint, FileEndpoint):
        return f"file://{quote(os.fsencode(endpoint.path))}"
    if isinstance(endpoint, TcpEndpoint):
        return f"coap+tcp://{_authority(endpoint)}{path}"
    if isinstance(endpoint, HttpEndpoint):
        return f"{'ipfs+' if endpoint.is_gateway else ''}{endpoint.origin}{path}"
    key = "" if endpoint.key is None else f"#{endpoint.key}"
    return f"coaps+tcp://{_authority(endpoint)}{path}{_format_files(url.flags.files)}{key}"


def _format_files(files: CertificateFiles | None) -> str:
    paths = [(flag, getattr(files, name, None)) for flag, name in _FILES.items()]
    flags = "&".join(f"{flag}={quote(os.fsencode(path))}" for flag, path in paths if path)
    return f"?{flags}" if flags else ""

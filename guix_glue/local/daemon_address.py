"""Where a Guix daemon listens, as `GUIX_DAEMON_SOCKET` says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from guix_glue.errors import DaemonError

__all__ = ["DaemonAddress", "TcpAddress", "UnixAddress", "parse_daemon_address"]

_DEFAULT_PORT: Final = 44146


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A daemon reached through a network that is trusted: nothing is encrypted or verified."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"guix://{host}:{self.port}"


DaemonAddress = UnixAddress | TcpAddress


def parse_daemon_address(text: str) -> DaemonAddress:
    """Read a path, `unix:///PATH`, `file:///PATH` or `guix://HOST[:PORT]`.

    Raises: DaemonError, for anything else, as `ssh://`.
    """
    if not text or "\0" in text:
        raise DaemonError(f"not the address of a Guix daemon: {text!r}")
    if "://" not in text:
        return UnixAddress(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DaemonError(f"not the address of a Guix daemon: {text!r}: {error}") from None
    match parts.scheme:
        case "unix" | "file" if parts.path and not host:
            return UnixAddress(unquote(parts.path))
        case "guix" if host and port != 0 and parts.path in ("", "/"):
            return TcpAddress(host, _DEFAULT_PORT if port is None else port)
        case _:
            raise DaemonError(f"not an address of a Guix daemon that can be used: {text!r}")

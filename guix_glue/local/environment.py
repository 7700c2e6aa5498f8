"""Where this machine keeps its store, that of Guix or that of Nix, as the environment says.

The daemon and the scripts of Guix honour these variables alike, and so does Nix with its own;
whoever runs a store of their own, as for tests, sets them. An empty variable counts as one that is
not set. `NIX_STORE_DIR` is read by both.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from guix_glue.errors import GuixError

__all__ = ["GuixEnvironment", "NixEnvironment"]


@dataclass(frozen=True, slots=True)
class GuixEnvironment:
    """The places of a Guix: absolute directories without a slash at the end.

    `daemon_socket` is the path of a socket, or a URI as `guix://HOST:PORT`.
    """

    store_dir: str = "/gnu/store"
    state_dir: str = "/var/guix"
    database_dir: str = "/var/guix/db"
    log_dir: str = "/var/log/guix"
    config_dir: str = "/etc/guix"
    daemon_socket: str = "/var/guix/daemon-socket/socket"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; what is not set has Guix's usual value.

        Raises: GuixError, if a directory is not an absolute path.
        """
        state_dir = _directory(environ, "GUIX_STATE_DIRECTORY", "/var/guix")
        return cls(
            store_dir=_directory(environ, "NIX_STORE_DIR", "/gnu/store"),
            state_dir=state_dir,
            database_dir=_directory(environ, "GUIX_DATABASE_DIRECTORY", f"{state_dir}/db"),
            log_dir=_directory(environ, "GUIX_LOG_DIRECTORY", "/var/log/guix"),
            config_dir=_directory(environ, "GUIX_CONFIGURATION_DIRECTORY", "/etc/guix"),
            daemon_socket=environ.get("GUIX_DAEMON_SOCKET") or f"{state_dir}/daemon-socket/socket",
        )


@dataclass(frozen=True, slots=True)
class NixEnvironment:
    """The places of a Nix: absolute directories without a slash at the end."""

    store_dir: str = "/nix/store"
    state_dir: str = "/nix/var/nix"
    log_dir: str = "/nix/var/log/nix"

    @property
    def database_dir(self) -> str:
        """Where the database is, which no variable moves elsewhere."""
        return f"{self.state_dir}/db"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; what is not set has Nix's usual value.

        Raises: GuixError, if a directory is not an absolute path.
        """

        def directory(variable: str, default: str) -> str:
            # Nix takes `//`, `.` and `..` away, as text.
            given = _directory(environ, variable, default)
            return posixpath.normpath("/" + given.lstrip("/"))

        return cls(
            store_dir=directory("NIX_STORE_DIR", directory("NIX_STORE", "/nix/store")),
            state_dir=directory("NIX_STATE_DIR", "/nix/var/nix"),
            log_dir=directory("NIX_LOG_DIR", "/nix/var/log/nix"),
        )


def _directory(environ: Mapping[str, str], variable: str, default: str) -> str:
    value = environ.get(variable) or default
    if not value.startswith("/") or "\0" in value:
        raise GuixError(f"{variable} is not an absolute path: {value!r}")
    return value.rstrip("/") or "/"

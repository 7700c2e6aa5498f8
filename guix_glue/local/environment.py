"""Where this machine keeps its store, as the environment says.

The daemon and the scripts of Guix honour these variables alike; whoever runs a store of their own,
as for tests, sets them. An empty variable counts as one that is not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from guix_glue.errors import GuixError

__all__ = ["GuixEnvironment"]


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

        def directory(variable: str, default: str) -> str:
            value = environ.get(variable) or default
            if not value.startswith("/") or "\0" in value:
                raise GuixError(f"{variable} is not an absolute path: {value!r}")
            return value.rstrip("/") or "/"

        state_dir = directory("GUIX_STATE_DIRECTORY", "/var/guix")
        return cls(
            store_dir=directory("NIX_STORE_DIR", "/gnu/store"),
            state_dir=state_dir,
            database_dir=directory("GUIX_DATABASE_DIRECTORY", f"{state_dir}/db"),
            log_dir=directory("GUIX_LOG_DIRECTORY", "/var/log/guix"),
            config_dir=directory("GUIX_CONFIGURATION_DIRECTORY", "/etc/guix"),
            daemon_socket=environ.get("GUIX_DAEMON_SOCKET") or f"{state_dir}/daemon-socket/socket",
        )

"""Errors of the daemon, its client and its command line, beside those of `eris`."""

from __future__ import annotations

from pathlib import Path

from eris.errors import StoreUnavailable

__all__ = [
    "CannotConnect",
    "ConfigError",
    "InvalidUrl",
    "KaplaError",
    "ListenError",
    "StorageError",
    "StoreSilent",
]


class KaplaError(Exception):
    """Base of the errors of `kapla`."""


class ConfigError(KaplaError):
    """A setting is wrong: the message names where it stands and what it should be."""


class InvalidUrl(ConfigError, ValueError):
    """Not a store or listener URL that Kapla understands.

    The URL itself is not repeated: its path may be a capability.
    """


class CannotConnect(StoreUnavailable):
    """Nothing answers where a store should be; `number` is the `errno`, if it is known.

    `socket` is the path of the Unix socket, None for TCP.
    """

    def __init__(
        self, where: str, reason: str, *, number: int | None = None, socket: Path | None = None
    ) -> None:
        super().__init__(f"cannot connect to {where}: {reason}")
        self.number = number
        self.socket = socket


class StoreSilent(StoreUnavailable):
    """A store took requests and did not answer in time."""


class ListenError(KaplaError):
    """A listener cannot be opened."""


class StorageError(KaplaError):
    """The database cannot be opened or is not one of ours."""

"""Errors of the daemon, its client and its command line, beside those of `eris`."""

from __future__ import annotations

__all__ = ["ConfigError", "InvalidUrl", "KaplaError", "ListenError", "StorageError"]


class KaplaError(Exception):
    """Base of the errors of `kapla`."""


class ConfigError(KaplaError):
    """A setting is wrong: the message names where it stands and what it should be."""


class InvalidUrl(ConfigError, ValueError):
    """Not a store or listener URL that Kapla understands.

    The URL itself is not repeated: its path may be a capability.
    """


class ListenError(KaplaError):
    """A listener cannot be opened."""


class StorageError(KaplaError):
    """The database cannot be opened or is not one of ours."""

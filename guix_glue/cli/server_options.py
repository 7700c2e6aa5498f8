"""Options that several commands for Guix and Nix share: each is written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import click

from guix_glue.cli.option_types import parsed_nix_keys

__all__ = [
    "acl_option",
    "admin_option",
    "log_format_option",
    "max_connections_option",
    "max_unsigned_size_option",
    "nix_keys_option",
    "port_option",
    "user_option",
]

_F = TypeVar("_F", bound=Callable[..., Any])


class _Option(Protocol):
    """What adds an option to a command."""

    def __call__(self, command: _F, /) -> _F: ...


user_option: Final = click.option(
    "-u", "--user", metavar="USER", help="Become this user once the keys are read."
)


def max_connections_option() -> _Option:
    """How many clients there may be."""
    # Loaded by servers alone.
    from kapla.http.serving.connections import ConnectionLimits

    return click.option(
        "--max-connections",
        type=click.IntRange(min=1),
        default=ConnectionLimits().connections,
        show_default=True,
        help="Clients at once. One more takes the place of whoever takes least.",
    )


def port_option(default: int) -> _Option:
    """Where to listen."""
    return click.option(
        "-p",
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="0 takes a free one, which the log names.",
    )


def admin_option(port: int) -> _Option:
    """Where this machine is told how it is doing; `port` is the one that is proposed."""
    return click.option(
        "--admin",
        metavar="PLACE",
        help="Tell this machine how it is doing by HTTP: a page, metrics, health."
        f" 127.0.0.1:{port}, or unix:/PATH. Default: nowhere.",
    )


def log_format_option(of: str) -> _Option:
    """What logs look like; `of` says which."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="KAPLA_LOG_FORMAT",
        show_envvar=True,
        help=f"Of {of}: text, or an object of JSON a line.",
    )


def acl_option(keys: str) -> _Option:
    """The access list; `keys` says what its keys are for."""
    return click.option(
        "--acl", type=click.Path(path_type=Path), help=f"{keys}. Default: /etc/guix/acl."
    )


def nix_keys_option(keys: str) -> _Option:
    """Public keys of Nix, as `nix_keys`; `keys` says what they are for."""
    return click.option(
        "--trusted-public-keys",
        "nix_keys",
        metavar="KEY…",
        multiple=True,
        callback=parsed_nix_keys,
        help=f"{keys}, as name:base64, besides those in nix.conf.",
    )


def max_unsigned_size_option(largest: str) -> _Option:
    """How large a nar may be; `largest` says which."""
    return click.option(
        "--max-unsigned-size",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help=f"{largest} when nobody signed its size. Default: 16 GiB.",
    )

"""The settings that the daemon has: by its own loader, with the options and variables that it got.

Of a running daemon these are in /proc, for its user and root; else it is what `kaplad` would read
here and now.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kapla.cli.doctor.facts import SettingsFacts
from kapla.errors import ConfigError
from kapla.store_place import is_url

if TYPE_CHECKING:
    from kapla.config import Config

__all__ = ["read_settings"]

_CONNECT_S: Final = 1.0
_MOST_PORTS: Final = 8
_LONGEST: Final = 2**20
_FLAGS: Final = ("file", "store", "listen", "max_size", "min_free", "when_full", "http", "admin")
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def read_settings(pid: int | None) -> SettingsFacts:
    """What the daemon of this process would read, or with None one that is started here."""
    from kapla.config import load_config

    words, environment = ([], dict(os.environ)) if pid is None else _of_process(pid)
    if words is None or environment is None:
        return SettingsFacts()
    try:
        config = load_config(**_flags(words, pid), environment=environment)
    except ConfigError as error:
        return SettingsFacts(is_known=True, error=str(error))
    except (click.ClickException, TypeError):
        # Started by another program, or with options that we do not know.
        return SettingsFacts()
    return SettingsFacts(
        is_known=True,
        store=str(config.store) if isinstance(config.store, Path) else "",
        max_size=config.max_size,
        min_free=config.min_free,
        max_connections=config.max_connections,
        ports=tuple(_ports(config)) if pid is not None else (),
    )


def _of_process(pid: int) -> tuple[list[str] | None, dict[str, str] | None]:
    """The words and the variables that a daemon was started with; None if we may not see them."""
    words = _strings(f"/proc/{pid}/cmdline")
    names = [os.path.basename(word) for word in words or []]
    if not words or "kaplad" not in names:
        return None, None
    variables = _strings(f"/proc/{pid}/environ")
    if variables is None:
        return None, None
    pairs = (one.partition("=") for one in variables)
    return words[names.index("kaplad") + 1 :], {name: value for name, _, value in pairs}


def _strings(path: str) -> list[str] | None:
    try:
        with open(path, "rb") as file:
            return [os.fsdecode(one) for one in file.read(_LONGEST).split(b"\0") if one]
    except OSError:
        return None


def _flags(words: Sequence[str], pid: int | None) -> dict[str, Any]:
    """The options of `kaplad` that settings come from, read as it reads them, where it runs."""
    from kapla.__main__ import command

    context = command.make_context("kaplad", list(words), resilient_parsing=True)
    flags = {name: value for name in _FLAGS if (value := context.params.get(name))}
    for name in ("file", "store"):
        if name in flags and pid is not None and not is_url(flags[name]):
            with suppress(OSError):
                flags[name] = os.path.join(os.readlink(f"/proc/{pid}/cwd"), flags[name])
    return flags


def _ports(config: Config) -> Iterator[tuple[str, int, str | None]]:
    """The ports of the listeners, and whether each takes a connection from this machine."""
    urls = [*config.listen, *config.http][:_MOST_PORTS]
    for url in urls:
        host, port = getattr(url.endpoint, "host", None), getattr(url.endpoint, "port", None)
        if isinstance(host, str) and isinstance(port, int) and port:
            yield host, port, _refusal(_ANY.get(host, host), port)


def _refusal(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except TimeoutError:
        return "it does not answer"
    except OSError as error:
        return error.strerror or str(error)
    return None

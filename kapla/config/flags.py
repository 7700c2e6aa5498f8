"""The options of `kaplad` that are settings, for all commands that read these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kapla.config.table import SETTINGS

__all__ = ["setting_flags"]

_F = TypeVar("_F", bound=Callable[..., Any])


def setting_flags(command: _F) -> _F:
    """Add `--config`, `--debug` and the flags of all settings, as a decorator.

    The command gets `file`, `debug`, and the others by their names, as `max_size`.
    """
    flags = [flag for setting in SETTINGS for flag in setting.flags]
    for flag in reversed(flags):
        option = click.option(
            flag.name, metavar=flag.metavar, multiple=flag.several, help=flag.help
        )
        command = option(command)
    command = click.option(
        "--config", "file", metavar="FILE", help="Settings in TOML: see docs/cli.md."
    )(command)
    return click.option("-d", "--debug", is_flag=True, help="Log what happens inside.")(command)

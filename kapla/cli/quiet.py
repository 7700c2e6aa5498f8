"""How much a command says of itself beside its result: nothing, a summary, or more.

`-q`, `-v` and `--progress` may stand before the command and, where it moves content, behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import click

__all__ = ["is_verbose", "is_watched", "talk_options", "wants_progress"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_QUIET: Final = "kapla.quiet"
_VERBOSE: Final = "kapla.verbose"
_PROGRESS: Final = "kapla.progress"


def talk_options(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `-q`, `-v` and `--progress` to a command, or to all of them."""
    options = (
        click.option(
            "--progress/--no-progress",
            default=None,
            expose_value=False,
            callback=_keep(_PROGRESS),
            help="Show how far it is, or not. Default: if standard error is a terminal.",
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_keep(_VERBOSE),
            help="Say more at the end: how long what took, and what each store gave or got.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_keep(_QUIET),
            help="Show neither progress nor a summary.",
        ),
    )
    for option in options:
        command = option(command)
    return command


def _keep(name: str) -> Callable[[click.Context, click.Parameter, bool | None], None]:
    def keep(context: click.Context, _: click.Parameter, value: bool | None) -> None:
        # What was said before the command holds, unless something else is said behind it.
        if value or (value is not None and name == _PROGRESS):
            context.meta[name] = value

    return keep


def is_watched() -> bool:
    """Whether a summary is wanted: there is a terminal, or somebody asked, and nobody for quiet."""
    if _said(_QUIET):
        return False
    return bool(sys.stderr.isatty() or _said(_VERBOSE) or _said(_PROGRESS))


def wants_progress() -> bool:
    """Whether it is to be shown how far it is."""
    if _said(_QUIET):
        return False
    said = _said(_PROGRESS)
    return sys.stderr.isatty() if said is None else bool(said)


def is_verbose() -> bool:
    """Whether more is to be said than usual."""
    return bool(_said(_VERBOSE)) and not _said(_QUIET)


def _said(name: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(name)

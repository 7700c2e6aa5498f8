"""Whether anybody wants to see how a command is getting on."""

from __future__ import annotations

import sys
from typing import Final

import click

__all__ = ["be_quiet", "is_watched"]

_QUIET: Final = "kapla.quiet"


def be_quiet(context: click.Context) -> None:
    """Show neither progress nor summary."""
    context.meta[_QUIET] = True


def is_watched() -> bool:
    """Whether there is a terminal, and nobody asked for quiet."""
    context = click.get_current_context(silent=True)
    is_quiet = context is not None and context.meta.get(_QUIET, False)
    return not is_quiet and sys.stderr.isatty()

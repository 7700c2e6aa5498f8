"""`kapla lend`: what is pinned may be given to others, or not any more."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kapla.cli.change_pins import change_each
from kapla.cli.common import store_option

__all__ = ["command"]


@click.command(name="lend", short_help="Let the daemon give pinned contents to others.")
@click.argument("pins", metavar="NAME|URN…", nargs=-1, required=True)
@click.option("--stop", is_flag=True, help="Lend it no more. It stays pinned.")
@store_option
def command(pins: Sequence[str], stop: bool, store_url: str | None) -> None:
    """Lend what is pinned: peers of listeners that lend can fetch its blocks.

    Who has no URN of it cannot read them. Give the names of pins, or the URNs they are of.
    """
    hint = "" if stop else "; to pin what is in the store and lend it: kapla pin --lend"
    change_each(
        pins, lambda all_pins, one: all_pins.change(one, lend=not stop), store_url, hint=hint
    )

"""`kapla unpin`: what was pinned may go when the store needs room."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kapla.cli.change_pins import change_each
from kapla.cli.common import store_option

__all__ = ["command"]


@click.command(name="unpin", short_help="Release pins: their contents may go.")
@click.argument("pins", metavar="NAME|URN…", nargs=-1, required=True)
@store_option
def command(pins: Sequence[str], store_url: str | None) -> None:
    """Release pins, by their names or by the URNs they are of, and lend their contents no more.

    Nothing is deleted: blocks that no other pin holds go when the store needs room.
    """
    change_each(pins, lambda all_pins, one: all_pins.release(one), store_url)

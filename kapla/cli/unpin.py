"""`kapla unpin`: what was pinned may go when the store needs room."""

from __future__ import annotations

from collections.abc import Sequence

import click

from eris.model import Reference
from kapla.cli.change_pins import change_each, owner_option
from kapla.cli.common import store_option
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told
from kapla.pinning import Pins
from kapla.pins import PinSummary

__all__ = ["command"]


@told(
    ("Release a pin by its name", "kapla unpin holidays"),
    ("Release your pins of a content", "kapla unpin @notes"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="unpin", short_help="Release pins: their contents may go.")
@click.argument("pins", metavar="NAME|URN…", nargs=-1, required=True)
@owner_option
@store_option
def command(pins: Sequence[str], owner: int | None, store_url: str | None) -> None:
    """Release pins, by their names or by the URNs they are of, and lend their contents no more.

    Nothing is deleted: blocks that no other pin holds go when the store needs room.
    """

    async def release(all_pins: Pins, one: str | Reference, whose: int | None) -> PinSummary:
        return await all_pins.release(one, owner=whose)

    change_each(pins, release, store_url, owner=owner)

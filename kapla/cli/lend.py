"""`kapla lend`: what is pinned may be given to others, or not any more."""

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
    ("Let others fetch what is pinned", "kapla lend @notes"),
    ("Stop that again", "kapla lend --stop @notes"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="lend", short_help="Let the daemon give pinned contents to others.")
@click.argument("pins", metavar="NAME|URN…", nargs=-1, required=True)
@click.option("--stop", is_flag=True, help="Lend it no more. It stays pinned.")
@owner_option
@store_option
def command(pins: Sequence[str], stop: bool, owner: int | None, store_url: str | None) -> None:
    """Lend what is pinned: peers of listeners that lend can fetch its blocks.

    Who has no URN of it cannot read them. Give the names of pins, or the URNs they are of.
    """
    hint = "" if stop else "; to pin what is in the store and lend it: kapla pin --lend"

    async def change(all_pins: Pins, one: str | Reference, whose: int | None) -> PinSummary:
        return await all_pins.change(one, owner=whose, lend=not stop)

    change_each(pins, change, store_url, owner=owner, hint=hint)

"""`kapla map diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guix_glue.cli.map.reading import loaded
from kapla.cli.common import ExitCode, run, store_option
from kapla.cli.told import told

if TYPE_CHECKING:
    from guix_glue.formats.item_map import Entry

__all__ = ["diff"]


@told(
    ("See what is new since yesterday", "kapla map diff yesterday.map today.map"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
    means={0: "nothing differs", int(ExitCode.FAILED): "something differs, or another failure"},
)
@click.command(name="diff", short_help="Show what differs between two maps.")
@click.argument("old", metavar="OLD-MAP")
@click.argument("new", metavar="NEW-MAP")
@click.option("--urns", is_flag=True, help="Show the URNs, too: who reads them can read the items.")
@store_option
@click.pass_context
def diff(context: click.Context, old: str, new: str, urns: bool, store_url: str | None) -> None:
    """Show what differs between two maps, a line for each item.

    It begins with + for an item that only the new one has, - only the old one, ! of which they name
    two URNs; then comes the hash part.
    """
    from guix_glue.formats.item_map import hash_part_at
    from guix_glue.maps.combining import compare

    before, after = run(loaded([old, new], store_url))
    found = False
    for one in compare(before, after):
        found = True
        entry = one.after or one.before
        assert entry is not None
        line = f"{one.change.value} {hash_part_at(entry.key)}"
        if urns:
            line += "".join(f" {_urn(side)}" for side in (one.before, one.after) if side)
        click.echo(line)
    context.exit(1 if found else 0)


def _urn(entry: Entry) -> str:
    from guix_glue.formats.item_map import urn_of

    return urn_of(entry.value)

"""`kapla map`: maps made, joined, compared, asked and checked."""

from __future__ import annotations

import click

from guix_glue.cli.map.build import build
from guix_glue.cli.map.diff import diff
from guix_glue.cli.map.get import get
from guix_glue.cli.map.merge import merge
from guix_glue.cli.map.verify import verify
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("Make a map of all items of this machine's store", "kapla map build items.map"),
    ("Put it into the store and let others read it", "kapla encode --lend items.map"),
    ("Ask a map for one item", "kapla map get @items.urn 7xq3qwahlz7ci18sxrm0qhmzqmafag1f"),
)
@click.group(name="map", short_help="Make and read maps of items to URNs.")
def command() -> None:
    """Make and read maps, which say under which URN each store item is.

    A map is a file, a folder, a database of SQLite, a list, a server's, or blocks under a URN.
    Nobody need trust one: kapla substitute compares what it leads to with what is signed.
    """


for one in (build, merge, diff, get, verify):
    command.add_command(one)

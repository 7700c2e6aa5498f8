"""`kapla items`: items of a store into blocks and out of them, without a server."""

from __future__ import annotations

import click

from guix_glue.cli.items_encode import encode
from guix_glue.cli.items_fetch import fetch
from kapla.cli.told import told

__all__ = ["command"]


@told(
    (
        "Put a profile, with all it needs, into blocks",
        "kapla items encode --closure --name laptop ~/.guix-profile",
    ),
    (
        "And from there into the store of another machine",
        "kapla items fetch --into-store URN",
    ),
)
@click.group(name="items", short_help="Encode store items, and fetch them, without a server.")
def command() -> None:
    """Encode items of a Guix or Nix store, and fetch them, without a substitute server."""


command.add_command(encode)
command.add_command(fetch)

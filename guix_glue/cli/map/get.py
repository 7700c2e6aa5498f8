"""`kapla map get`."""

from __future__ import annotations

import click

from guix_glue.cli.map.reading import hash_part_given, opened
from kapla.cli.common import CommandError, ExitCode, run, store_option
from kapla.cli.told import told

__all__ = ["get"]


@told(
    (
        "Ask a server for one item",
        "kapla map get http://mirror.example 7xq3qwahlz7ci18sxrm0qhmzqmafag1f",
    ),
    ("List all that a map has", "kapla map get items.map"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
    means={int(ExitCode.MISSING): "the map does not have an item, or a block is missing"},
)
@click.command(name="get", short_help="Tell the URNs of items.")
@click.argument("map_", metavar="MAP")
@click.argument("items", metavar="[ITEM]...", nargs=-1)
@store_option
def get(map_: str, items: tuple[str, ...], store_url: str | None) -> None:
    """Tell under which URNs items are: a line with the hash part and the URN of each.

    MAP: a file, a folder, URL of a server, URL/map.urn, a URN, @NAME, @FILE. ITEM: a path, the name
    of an item or its hash part; without any, all that the map has are told.
    """
    hash_parts = [hash_part_given(item) for item in items]
    missing = run(_get(map_, hash_parts, store_url))
    if missing:
        raise CommandError(
            f"the map does not have {', '.join(missing[:3])}{' …' if missing[3:] else ''}",
            ExitCode.MISSING,
        )


async def _get(map_: str, hash_parts: list[str], store_url: str | None) -> list[str]:
    """Tell them; returns those that are not there."""
    missing = []
    async with opened([map_], store_url) as (one,):
        if not hash_parts:
            from guix_glue.maps.writing import lines_of

            for line in lines_of(await one.load()):
                click.echo(line, nl=False)
        for hash_part in hash_parts:
            urn = await one.find(hash_part)
            if urn is None:
                missing.append(hash_part)
            else:
                click.echo(f"{hash_part} {urn}")
    return missing

"""`kapla map merge`."""

from __future__ import annotations

import click

from guix_glue.cli.map.output import form_option, write
from guix_glue.cli.map.reading import loaded
from kapla.cli.common import ExitCode, run, store_option
from kapla.cli.told import told

__all__ = ["merge"]


@told(
    ("Have one map of one's own and of another's", "kapla map merge all.map mine.map @theirs.urn"),
    ("Write a map as a folder of files", "kapla map merge items/ items.map"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="merge", short_help="Join maps into one.")
@click.argument("out", metavar="OUT")
@click.argument("maps", metavar="MAP...", nargs=-1, required=True)
@form_option
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@store_option
def merge(
    out: str, maps: tuple[str, ...], form: str | None, force: bool, store_url: str | None
) -> None:
    """Join maps, and write what comes of it to OUT. Of one map it changes the form.

    MAP: a file, a folder, URL/map.urn, a URN, @NAME, @FILE. What several have is taken from the
    first of these.
    """
    run(_merge(out, maps, form, force, store_url))


async def _merge(
    out: str, maps: tuple[str, ...], form: str | None, force: bool, store_url: str | None
) -> None:
    from eris.threads import in_thread
    from guix_glue.maps.combining import merge as joined

    contents = await in_thread(joined, await loaded(maps, store_url))
    await write(out, form, contents, force=force)

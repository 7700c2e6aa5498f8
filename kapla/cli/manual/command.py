"""`kapla manual`: the pages, for who has not installed them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from difflib import get_close_matches
from pathlib import Path

import click

from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("Read all about one command", "kapla manual encode"),
    ("Of the daemon's settings", "kapla manual kapla.toml"),
    (
        "Have man find the pages, where it looks for a user's own",
        "kapla manual --write ~/.local/share/man",
    ),
)
@click.command(name="manual", short_help="Show or write the manual pages.")
@click.argument("page", metavar="[PAGE]", default="kapla")
@click.option(
    "--write",
    "directory",
    metavar="DIR",
    help="Write all pages below DIR instead: man1, man5, man8.",
)
def command(page: str, directory: str | None) -> None:
    """Show a manual page, or write all of them.

    PAGE is a command of kapla, kaplad or kapla.toml. It is shown by man, which must be installed.
    """
    if directory is not None:
        from kapla.cli.manual.writing import write_pages

        click.echo(f"{len(write_pages(Path(directory)))} pages in {directory}")
        return
    _show(page)


def _show(name: str) -> None:
    from kapla.cli.manual.pages import page_named, page_names
    from kapla.cli.manual.writing import write_page

    page = page_named(name)
    if page is None:
        known = [*page_names(), *(one.removeprefix("kapla-") for one in page_names())]
        near = get_close_matches(name, known, 1)
        hint = f"; is {near[0]} meant?" if near else ""
        raise CommandError(f"there is no page of {name!r}{hint}", ExitCode.USAGE)
    man = shutil.which("man")
    if man is None:
        raise CommandError("man is not installed: kapla COMMAND --help tells most, --write writes")
    with tempfile.TemporaryDirectory(prefix="kapla-") as place:
        path = write_page(Path(place), page)
        code = subprocess.run([man, str(path)], check=False).returncode
    if code:
        raise CommandError(f"man cannot show the page: it ended with {code}")

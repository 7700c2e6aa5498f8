"""`python -m kapla.cli.manual`: for who packages Kapla."""

from __future__ import annotations

from pathlib import Path

import click

from kapla.cli.completing.scripts import SHELLS
from kapla.cli.manual.writing import write_completions, write_pages

__all__ = ["main"]

_OUTDIR = click.argument("outdir", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def main() -> None:
    """Write manual pages, and what shells complete by, for a package."""


@main.command()
@_OUTDIR
def man(outdir: Path) -> None:
    """Write all pages into man1, man5 and man8 below OUTDIR."""
    for path in write_pages(outdir):
        click.echo(path)


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
@_OUTDIR
def completions(shell: str, outdir: Path) -> None:
    """Write the script of a shell into OUTDIR, under the name that the shell wants."""
    click.echo(write_completions(shell, outdir))


if __name__ == "__main__":
    main(prog_name="python -m kapla.cli.manual")

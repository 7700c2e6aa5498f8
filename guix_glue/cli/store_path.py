"""`kapla store-path`: where a store keeps something that is known by its content alone."""

from __future__ import annotations

import os

import click

from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from guix_glue.local.environment import GuixEnvironment
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("Where a store would have this file", "kapla store-path hello.txt"),
    exits=(ExitCode.DAMAGED,),
)
@click.command(name="store-path", short_help="Tell the store path of a file or a tree.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--store-dir", metavar="DIR", help="Default: /gnu/store.")
def command(files: tuple[str, ...], store_dir: str | None) -> None:
    """Tell the store path of files or trees, as kapla publish --items gives it to its entries."""
    directory = store_dir or GuixEnvironment.from_environ(os.environ).store_dir
    for file in files:
        path = os.path.abspath(file)
        digest, _ = nar_hash(path)
        click.echo(fixed_output_path(directory, os.path.basename(path), digest, recursive=True))

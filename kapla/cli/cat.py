"""`kapla cat`: one file out of a tree."""

from __future__ import annotations

from contextlib import aclosing

import click

import eris_fs
from eris.capability import ReadCapability
from kapla.cli.common import (
    CommandError,
    connect,
    read_capability,
    run,
    standard_output,
    store_option,
    summarized,
    urn_argument,
)
from kapla.cli.content import require_tree
from kapla.cli.in_tree import no_such_path, tree_path
from kapla.cli.outcome import ExitCode
from kapla.cli.summary import Summary, current_summary
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("Read one file of a tree", "kapla cat @notes plan.txt"),
    ("Look for a word in it", "kapla cat @notes log/2026.txt | grep -i paint"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="cat", short_help="Write one file of a tree to standard output.")
@urn_argument
@click.argument("path", metavar="PATH-IN-TREE")
@store_option
@summarized(sends=False, done="read")
def command(urn: str, path: str, store_url: str | None) -> None:
    """Write one file of a tree to standard output.

    Only the index and the file's own blocks are fetched; of a packed tree, the packs that the file
    is in.
    """
    run(_cat(read_capability(urn), path, store_url))


async def _cat(capability: ReadCapability, path: str, store_url: str | None) -> None:
    async with connect(store_url, capability) as store:
        tree = await require_tree(store, capability)
        file = _find(tree, path)
        output = standard_output()
        shown = current_summary() or Summary()
        shown.withhold()
        async with aclosing(eris_fs.read_files(store, tree, [file])) as pieces:
            async for piece in pieces:
                output.write(piece.content)
                shown.advance(len(piece.content))
        output.flush()


def _find(tree: eris_fs.Tree, text: str) -> eris_fs.Path:
    path = tree_path(text)
    entry = tree.get(path)
    shown = eris_fs.show_path(path)
    if isinstance(entry, eris_fs.FileEntry):
        return path
    if isinstance(entry, eris_fs.Symlink):
        raise CommandError(f"{shown} is a symlink to {eris_fs.printable(entry.target)}")
    if eris_fs.is_directory(tree, path):
        raise CommandError(f"{shown} is a directory")
    raise no_such_path(tree, path)

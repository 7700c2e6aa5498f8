"""`kapla diff`: what differs between two trees, or two files, and what the newer one costs."""

from __future__ import annotations

import json

import click

import eris_fs
from eris.capability import ReadCapability
from eris.errors import BlockNotFound
from kapla.cli.common import (
    CommandError,
    Store,
    connect,
    progress,
    read_capability,
    run,
    store_option,
)
from kapla.cli.content import IS_A_DELTA, Kind, kind_of, load_tree
from kapla.cli.differences import Differences
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("See what changed since the last time", "kapla diff @notes~1 @notes"),
    ("Learn for a program what an upgrade costs", "kapla diff --json @notes~1 @notes"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
    means={0: "nothing differs", int(ExitCode.FAILED): "something differs, or another failure"},
)
@click.command(name="diff", short_help="Show what differs between two trees.")
@click.argument("old", metavar="OLD-URN")
@click.argument("new", metavar="NEW-URN")
@click.option(
    "--read",
    is_flag=True,
    help="Read what the indexes leave open, and compare it. Only of packed trees anything is.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_option
@click.pass_context
def command(
    context: click.Context, old: str, new: str, read: bool, as_json: bool, store_url: str | None
) -> None:
    """Show what differs between two trees: paths, sizes, and the blocks that only the new one has.

    Each line begins with + for what was added, - removed, ~ changed, x executable or no longer, >
    renamed, ? may have changed. Two contents that are no trees are compared as one file.

    Files are the same if their capabilities are. A file of a packed tree whose pack is another may
    still be the same: --read finds out.
    """
    capabilities = read_capability(old), read_capability(new)
    found, failure = run(_compare(*capabilities, read, store_url))
    if as_json:
        click.echo(json.dumps(found.facts()))
    else:
        for line in found.lines():
            click.echo(line)
    if failure is not None:
        raise failure
    context.exit(1 if found.changes else 0)


async def _compare(
    old: ReadCapability, new: ReadCapability, read: bool, store_url: str | None
) -> tuple[Differences, BlockNotFound | None]:
    """All that can be told, and what stands in the way of the rest."""
    async with connect(store_url, old, new) as store:
        before, now = await _tree(store, old), await _tree(store, new)
        changes = eris_fs.compare(before, now)
        changed = [change.path for change in changes if change.path in now]
        gone = [change.before or change.path for change in changes]
        old_sizes = await eris_fs.find_sizes(store, before, gone)
        new_sizes = await eris_fs.find_sizes(store, now, changed)
        changes = eris_fs.settle_by_size(changes, old_sizes.sizes, new_sizes.sizes)
        with progress("Comparing") as shown:
            if read:
                changes = await eris_fs.settle(store, before, now, changes, shown.reach)
            found = Differences(changes, old_sizes.sizes, new_sizes.sizes)
            try:
                found.cost = await _cost(store, (old, before), (new, now))
            except BlockNotFound as error:
                return found, error
        return found, None


async def _tree(store: Store, capability: ReadCapability) -> eris_fs.Tree:
    """The tree of a URN; of a plain content one that is this file."""
    match await kind_of(store, capability):
        case Kind.TREE:
            return await load_tree(store, capability)
        case Kind.DELTA:
            raise CommandError(IS_A_DELTA, ExitCode.USAGE)
        case Kind.FILE:
            return {(): eris_fs.RegularFile(capability)}


_Whole = tuple[ReadCapability, eris_fs.Tree]


async def _cost(store: Store, old: _Whole, new: _Whole) -> eris_fs.Amount:
    from kapla.reference_set import ReferenceSet

    before, now = ([one, *eris_fs.contents_of(tree)] for one, tree in (old, new))
    return await eris_fs.new_blocks(store, before, now, ReferenceSet())

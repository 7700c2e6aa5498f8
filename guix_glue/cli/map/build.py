"""`kapla map build`: the items of a store encoded by several processes, and their URNs as a map."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from guix_glue.cli.filled_stores import stores_to_fill
from guix_glue.cli.map.items import items_wanted
from guix_glue.cli.map.output import form_option
from kapla.cli.common import CommandError, ExitCode, run, summarized
from kapla.cli.told import told

if TYPE_CHECKING:
    from guix_glue.publish.tree_formats import TreeFormat

__all__ = ["build"]


@told(
    ("Make a map of all items of this machine's store", "kapla map build items.map"),
    ("Go on when it was interrupted, or items came since", "kapla map build items.map"),
    (
        "Store and lend the items, too",
        "kapla map build --store-url coap+unix:///run/eris.sock --lend items.map",
    ),
    exits=(
        ExitCode.STORE,
        ExitCode.MISSING,
        ExitCode.DAMAGED,
        ExitCode.REFUSED,
        ExitCode.INCOMPLETE,
    ),
    means={int(ExitCode.INCOMPLETE): "done, but without items that could not be encoded"},
)
@click.command(name="build", short_help="Encode items, and write a map of them.")
@click.argument("out", metavar="OUT")
@click.argument("items", metavar="[ITEM]...", nargs=-1)
@click.option(
    "--from",
    "list_file",
    metavar="LIST|-",
    help="Items to encode: a file with a path in each line.",
)
@form_option
@click.option(
    "--eris-format",
    type=click.Choice(["packed", "standard"]),
    default="packed",
    show_default=True,
    help="What items become: as of kapla publish.",
)
@click.option(
    "--eris-level",
    type=click.IntRange(1, 22),
    help="How hard to compress packed trees. Default: 19, as kapla publish does.",
)
@click.option(
    "--store-url",
    "store_urls",
    metavar="URL",
    multiple=True,
    help="Put the items into this store, pinned. Default: none; URNs are computed, and no block is"
    " kept.",
)
@click.option("--lend", is_flag=True, help="With --store-url: let the daemon give them to others.")
@click.option(
    "--store-dir",
    metavar="DIR",
    help="Where the items belong, for the map to say. Default: this machine's store, /gnu/store.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Processes that encode. Default: one for each processor.",
)
@click.option("--again", is_flag=True, help="Encode all items, also those that OUT has already.")
@click.option("--force", is_flag=True, help="Replace OUT if it is there and no map.")
@summarized(sends=False, done="encoded")
def build(
    out: str,
    items: tuple[str, ...],
    list_file: str | None,
    form: str | None,
    eris_format: str,
    eris_level: int | None,
    store_urls: tuple[str, ...],
    lend: bool,
    store_dir: str | None,
    workers: int | None,
    again: bool,
    force: bool,
) -> None:
    """Encode items, and write a map of their URNs to OUT. The URNs are those of kapla publish.

    ITEM: a path that ends in HASH-NAME, in the store or not. Without any, all valid items of this
    machine's store. What OUT says of an item that has not changed since is kept, if it is a map of
    the same format. What an interrupted run has done is in OUT.partial, and the next one goes on.
    """
    if lend and not store_urls:
        raise click.UsageError("--lend is for --store-url.")
    from guix_glue.cli.map.making import Making, make_map
    from guix_glue.local.environment import GuixEnvironment

    making = Making(
        out=out,
        form=form,
        trees=_trees(eris_format, eris_level),
        store_dir=store_dir or GuixEnvironment.from_environ(os.environ).store_dir,
        store_url=stores_to_fill(" ".join(store_urls), "--store-url") if store_urls else None,
        lend=lend,
        workers=workers or len(os.sched_getaffinity(0)),
        again=again,
        force=force,
    )
    left_out = run(make_map(making, items_wanted(items, list_file)))
    if left_out:
        text = "1 item is left out" if left_out == 1 else f"{left_out} items are left out"
        raise CommandError(f"{text}: they could not be encoded", ExitCode.INCOMPLETE)


def _trees(name: str, level: int | None) -> TreeFormat:
    from guix_glue.publish.tree_formats import DEFAULT_LEVEL, PackedTrees, StandardTrees

    if name == "packed":
        return PackedTrees(level or DEFAULT_LEVEL)
    if level is not None:
        raise click.UsageError("--eris-level is for packed trees.")
    return StandardTrees()

"""`kapla copy`: contents from one store to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict

import click

from eris.capability import ReadCapability
from eris.transfer import DEFAULT_WINDOW, PutWindow
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Progress,
    Store,
    connect,
    progress,
    read_capability,
    run,
    summarized,
)
from kapla.cli.holding import Holder
from kapla.cli.moving import Moved, move_blocks, presence
from kapla.cli.pinned import Pinning, pin_options, read_pinning
from kapla.cli.store import timeout_option
from kapla.cli.told import told
from kapla.client import default_store_urls

__all__ = ["command"]


@told(
    ("Have a content in another store too", "kapla copy --to coap+tcp://attic @notes"),
    ("Fetch one from there into the local store", "kapla copy --from coap+tcp://attic @photos.urn"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="copy", short_help="Copy contents from one store to another.")
@click.argument("urns", metavar="URN...", nargs=-1, required=True)
@click.option(
    "--from", "source", metavar="STORE", help="The store that has them. Default: the usual one."
)
@click.option(
    "--to", "target", metavar="STORE", help="The store that gets them. Default: the usual one."
)
@click.option("--raw", is_flag=True, help="Of a tree only its index, and not its files.")
@click.option("--json", "as_json", is_flag=True, help="Say what was done as one JSON object.")
@pin_options
@timeout_option
@summarized(sends=True, done="copied")
def command(
    urns: tuple[str, ...],
    source: str | None,
    target: str | None,
    raw: bool,
    as_json: bool,
    no_pin: bool,
    lend: bool,
) -> None:
    """Copy contents and whole trees, only the blocks that are missing there.

    STORE is a store URL, or several separated by spaces. One of --from and --to may be left out,
    and is then the store that other commands use. Whatever interrupts it, run it again to go on.
    What was copied is pinned there, unless --no-pin says otherwise.
    """
    pinning = read_pinning(no_pin, lend, no_store=False)
    if source is None and target is None:
        raise click.UsageError("Where to? Give --from, --to or both.")
    contents = [read_capability(urn) for urn in urns]
    _check_target(source, target)
    moved = run(_copy(contents, source, target, raw, pinning))
    click.echo(json.dumps(asdict(moved)) if as_json else moved.sentence("copied"))


def _check_target(source: str | None, target: str | None) -> None:
    urls = default_store_urls(target)
    if not any(url.allows("put") for url in urls):
        where = ", ".join(map(str, urls))
        raise CommandError(
            f"{where}: the URL allows no put, and this is where the blocks are to go",
            ExitCode.REFUSED,
        )
    if urls == default_store_urls(source):
        raise CommandError("--from and --to are the same store", ExitCode.USAGE)


async def _copy(
    contents: Sequence[ReadCapability],
    source_url: str | None,
    target_url: str | None,
    raw: bool,
    pinning: Pinning,
) -> Moved:
    moved = Moved()
    async with connect(source_url, *contents) as source, connect(target_url) as target:
        holder = Holder(target, pinning)
        with progress("Copying") as shown:
            for content in contents:
                async with holder.open() as (taker, pin):
                    await _move(content, source, taker, moved, shown, raw)
                    if pin is not None:
                        await holder.settle(pin, content.root.reference)
    return moved


async def _move(
    content: ReadCapability,
    source: Store,
    target: Store,
    moved: Moved,
    shown: Progress,
    raw: bool,
) -> None:
    pieces = move_blocks(source, [content], presence(target), moved, raw=raw)
    async with PutWindow(target, DEFAULT_WINDOW) as puts, aclosing(pieces):
        async for piece in pieces:
            await puts.add(piece, shown.advance)

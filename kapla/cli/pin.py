"""`kapla pin`: what is in a store already stays there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import click

import eris_fs
from eris.capability import ReadCapability
from eris.model import BlockSize, Reference
from kapla.cli.amounts import blocks_text, bytes_text
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Progress,
    Store,
    connect,
    progress,
    read_capability,
    run,
    store_option,
)
from kapla.cli.pin_names import read_pin_name
from kapla.cli.store import missing_root
from kapla.pinning import OpenPin, Pins

__all__ = ["command"]


@click.command(name="pin", short_help="Keep contents in the store for good.")
@click.argument("urns", metavar="URN…", nargs=-1, required=True)
@click.option("--name", help="Of the pin. Default: the reference of its first block.")
@click.option("--lend", is_flag=True, help="Also let the daemon give it to others.")
@click.option(
    "--incomplete",
    is_flag=True,
    help="Also what is not wholly there: the blocks that are missing belong to it when they come.",
)
@store_option
def command(
    urns: Sequence[str], name: str | None, lend: bool, incomplete: bool, store_url: str | None
) -> None:
    """Pin contents that are in the store, whole trees too, so that they stay when it needs room.

    Each gets a pin of its own, or all of them one with --name, which replaces one of that name.
    Only internal nodes and the indexes of trees are fetched.
    """
    if name is not None:
        read_pin_name(name)
    contents = [read_capability(urn) for urn in urns]
    groups = [[content] for content in contents] if name is None else [contents]
    run(_pin(groups, name, lend, incomplete, store_url))


@dataclass(slots=True)
class _Lacking:
    """What a content lacks in the store."""

    blocks: dict[Reference, BlockSize] = field(default_factory=dict)

    def __str__(self) -> str:
        size = sum(self.blocks.values())
        return f"{blocks_text(len(self.blocks))}, {bytes_text(size)}"


async def _pin(
    groups: Sequence[Sequence[ReadCapability]],
    name: str | None,
    lend: bool,
    incomplete: bool,
    store_url: str | None,
) -> None:
    everything = [content for group in groups for content in group]
    async with connect(store_url, *everything) as store:
        pins = Pins(await store.taker())
        with progress("Pinning") as shown:
            for contents in groups:
                async with await pins.open() as pin:
                    await _fill(store, pin, contents, incomplete, shown)
                    root = contents[0].root.reference
                    await pin.close(name=name, root=root, lend=lend, incomplete=incomplete)


async def _fill(
    store: Store,
    pin: OpenPin,
    contents: Sequence[ReadCapability],
    incomplete: bool,
    shown: Progress,
) -> None:
    """Have the pin hold all blocks of the contents.

    Raises: CommandError, with how much is missing, unless that is right.
    """
    lacking = _Lacking()
    walk = eris_fs.ReferenceWalk(store)
    for content in contents:
        async with aclosing(walk.content(content)) as batches:
            async for batch in batches:
                found = await pin.want([reference for reference, _ in batch])
                shown.advance(sum(size for _, size in batch))
                lacking.blocks.update(
                    one for one, is_there in zip(batch, found, strict=True) if not is_there
                )
    if lacking.blocks and not incomplete:
        raise CommandError(_reason(store, lacking, walk.unknown, contents), ExitCode.MISSING)
    if walk.unknown and not incomplete:
        raise CommandError("blocks went while they were pinned: try again", ExitCode.MISSING)


def _reason(
    store: Store, lacking: _Lacking, unknown: int, contents: Sequence[ReadCapability]
) -> str:
    """How much is missing, and what can be done."""
    if contents[0].root.reference in lacking.blocks:
        return missing_root(store.urls)
    more = ", and maybe others, of which these would tell" if unknown else ""
    return f"missing of this: {lacking}{more}. To pin what there is: --incomplete"

"""`kapla pin`: what is in a store already stays there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import click

import eris_fs
from eris.capability import ReadCapability
from eris.model import BlockSize, Reference
from kapla.amounts import blocks_text, bytes_text
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
from kapla.cli.pinned import is_lent
from kapla.cli.store import missing_root
from kapla.cli.told import told
from kapla.pinning import OpenPin, Pins
from kapla.pins import default_name

__all__ = ["command"]


@told(
    ("Keep a content for good", "kapla pin @notes"),
    ("Keep several, under one name", "kapla pin --name holidays @photos @films"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
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


class _Filling:
    """Has a pin hold batches of references, one while the next is looked for."""

    def __init__(self, pin: OpenPin, shown: Progress) -> None:
        self.lacking: dict[Reference, BlockSize] = {}
        """What of them is missing."""
        self._pin = pin
        self._shown = shown
        self._batch = eris_fs.FoundReferences()
        self._asked: asyncio.Task[list[bool]] | None = None

    async def add(self, batch: eris_fs.FoundReferences) -> None:
        """Begin with a batch; returns when the one before is done."""
        await self.settle()
        self._batch = batch
        asked = self._pin.want(batch.references)
        self._asked = asyncio.create_task(asked)

    async def settle(self) -> None:
        """Wait for what was begun."""
        if self._asked is None:
            return
        found = await self._asked
        self._asked = None
        self._shown.advance(sum(self._batch.sizes))
        if not all(found):
            self.lacking.update(
                one for one, is_there in zip(self._batch, found, strict=True) if not is_there
            )

    def withdraw(self) -> None:
        """Wait for nothing more."""
        if self._asked is not None:
            self._asked.cancel()


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
                    lent = lend or await is_lent(pins, name or default_name(root))
                    await pin.close(name=name, root=root, lend=lent, incomplete=incomplete)


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
    filling = _Filling(pin, shown)
    walk = eris_fs.ReferenceWalk(store)
    try:
        for content in contents:
            async with aclosing(walk.content(content)) as batches:
                async for batch in batches:
                    await filling.add(batch)
        await filling.settle()
    finally:
        filling.withdraw()
    if incomplete:
        return
    if filling.lacking:
        raise CommandError(_reason(store, filling, walk.unknown, contents), ExitCode.MISSING)
    if walk.unknown:
        raise CommandError("blocks went while they were pinned: try again", ExitCode.MISSING)


def _reason(
    store: Store, filling: _Filling, unknown: int, contents: Sequence[ReadCapability]
) -> str:
    """How much is missing, and what can be done."""
    lacking = filling.lacking
    if contents[0].root.reference in lacking:
        return missing_root(store.urls)
    more = ", and maybe others, of which these would tell" if unknown else ""
    amount = f"{blocks_text(len(lacking))}, {bytes_text(sum(lacking.values()))}"
    return f"missing of this: {amount}{more}. To pin what there is: --incomplete"

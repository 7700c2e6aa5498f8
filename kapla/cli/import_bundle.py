"""`kapla import`: the blocks of a bundle into the store."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import click

from eris.ahead import run_ahead
from eris.bundle import BadBlock, BundleItem, BundleReader
from eris.capability import ReadCapability
from eris.errors import InvalidBundle
from eris.model import EncodedBlock
from eris.threads import in_thread
from eris.transfer import DEFAULT_WINDOW, PutWindow
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Progress,
    Silent,
    Store,
    connect,
    progress,
    run,
    shows_progress,
    standard_input,
    standard_output,
    store_option,
    summarized,
)
from kapla.cli.holding import Holder, pin_contents
from kapla.cli.moving import Moved, presence
from kapla.cli.pinned import Pinning, pin_options, read_pinning
from kapla.cli.source import content_of, open_source, size_of
from kapla.cli.told import told

__all__ = ["command"]

# A question to the store for each: on a slow link that should be rare.
_READ: Final = 4 * 1024 * 1024
_AHEAD: Final = 2


@dataclass(slots=True)
class _Found:
    """What was in a bundle, and what was done with it."""

    moved: Moved = field(default_factory=Moved)
    bad: int = 0
    ignored: int = 0
    contents: dict[ReadCapability, None] = field(default_factory=dict)
    failure: InvalidBundle | None = None

    def facts(self) -> dict[str, object]:
        """As one JSON object."""
        return {
            "blocks": self.moved.blocks,
            "bytes": self.moved.bytes,
            "present": self.moved.present,
            "bad": self.bad,
            "ignored": self.ignored,
            "urns": [one.to_urn() for one in self.contents],
        }

    def complaint(self) -> str | None:
        """What to say of damage; None if there is none."""
        if self.failure is None and not self.bad:
            return None
        bad = f", {self.bad:,} bad" if self.bad else ""
        what = str(self.failure) if self.failure else "some blocks of the bundle are damaged"
        return f"{what}; {self.moved.sentence('imported')}{bad}"


@told(
    ("Store what was brought on a disk", "kapla import /mnt/usb/notes.blocks"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="import", short_help="Put the blocks of a bundle into the store.")
@click.argument("file", metavar="FILE|-")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with counts and URNs.")
@pin_options
@store_option
@summarized(sends=True, done="imported")
def command(file: str, as_json: bool, no_pin: bool, lend: bool, store_url: str | None) -> None:
    """Put the blocks of a bundle, as kapla export writes it, into the store; print its URNs.

    Each block is checked. Of a damaged or cut file what is good is kept; exit code 5. The contents
    that FILE names are pinned.
    """
    pinning = read_pinning(no_pin, lend, no_store=False)
    output = standard_output()
    found = run(_import(file, store_url, pinning))
    if as_json:
        output.write(json.dumps(found.facts()).encode() + b"\n")
    else:
        output.writelines(one.to_urn().encode() + b"\n" for one in found.contents)
    output.flush()
    complaint = found.complaint()
    if complaint is not None:
        raise CommandError(complaint, ExitCode.DAMAGED)
    if shows_progress():
        click.echo(found.moved.sentence("imported"), err=True)


async def _import(name: str, store_url: str | None, pinning: Pinning) -> _Found:
    with ExitStack() as stack:
        file = standard_input() if name == "-" else stack.enter_context(open_source(name))
        size = size_of(file)
        shown = stack.enter_context(progress(f"Importing {name}", size))
        async with connect(store_url) as store:
            async with Holder(store, pinning).open() as (taker, pin):
                found = await _put(taker, content_of(file, Silent()), shown)
                if pin is not None:
                    await pin_contents(await taker.taker(), found.contents, pinning)
            return found


async def _put(store: Store, source: BinaryIO | AsyncIterable[bytes], shown: Progress) -> _Found:
    found = _Found()
    has = presence(store)
    async with (
        PutWindow(store, DEFAULT_WINDOW) as puts,
        run_ahead(_items(source, found), _AHEAD) as next_items,
    ):
        while (items := await next_items()) is not None:
            blocks = dict(_sorted_out(items, found))
            there = await has(list(blocks)) if blocks else []
            found.moved.present += sum(there)
            lacking = [
                item for item, is_there in zip(blocks.items(), there, strict=True) if not is_there
            ]
            for block, is_there in zip(blocks.values(), there, strict=True):
                if is_there:
                    shown.advance(len(block))
            await puts.add(lacking, shown.advance)
            found.moved.blocks += len(lacking)
            found.moved.bytes += sum(len(block) for _, block in lacking)
    return found


async def _items(
    source: BinaryIO | AsyncIterable[bytes], found: _Found
) -> AsyncGenerator[list[BundleItem], None]:
    reader = BundleReader()
    async with aclosing(_pieces(source)) as pieces:
        async for piece in pieces:
            # In a thread, as every block is hashed.
            if items := await in_thread(reader.feed, piece):
                yield items
    try:
        reader.finish()
    except InvalidBundle as error:
        found.failure = error
    found.ignored = reader.ignored


async def _pieces(source: BinaryIO | AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    if isinstance(source, AsyncIterable):
        async for piece in source:
            yield piece
    else:
        while piece := await in_thread(source.read, _READ):
            yield piece


def _sorted_out(items: Sequence[BundleItem], found: _Found) -> list[EncodedBlock]:
    """The blocks; what else there is is noted."""
    blocks = []
    for item in items:
        if isinstance(item, ReadCapability):
            found.contents[item] = None
        elif isinstance(item, BadBlock):
            found.bad += 1
        else:
            blocks.append(item)
    return blocks

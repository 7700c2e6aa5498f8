"""`kapla export`: contents as one file, a bundle that any ERIS program reads."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import BinaryIO, Final

import click

from eris.bundle import BUNDLE_HEAD, format_bundle_tail, format_bundled_block
from eris.capability import ReadCapability
from eris.errors import StoreRefused
from eris.model import Reference
from kapla.block_list import ListReader
from kapla.cli.common import (
    CommandError,
    ExitCode,
    Progress,
    connect,
    progress,
    read_capability,
    run,
    store_option,
    summarized,
)
from kapla.cli.moving import Has, Moved, move_blocks
from kapla.cli.output_file import OutputFile
from kapla.cli.told import told
from kapla.errors import InvalidBlockList
from kapla.reference_set import ReferenceSet

__all__ = ["command"]

_READ: Final = 1024 * 1024


@told(
    ("Take a content along on a disk", "kapla export @notes /mnt/usb/notes.blocks"),
    (
        "Only what another machine lacks",
        "kapla export --missing-from coap+tcp://attic @notes notes.blocks",
    ),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="export", short_help="Write contents into a file, as a bundle of blocks.")
@click.argument("urns", metavar="URN...", nargs=-1, required=True)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--missing-from",
    "other",
    metavar="STORE|LIST",
    help="Only the blocks that another store does not have: its URL, or the file that kapla"
    " list-blocks wrote there.",
)
@click.option(
    "--no-capabilities",
    is_flag=True,
    help="Leave the URNs out: whoever only carries the file cannot read what is in it.",
)
@click.option("--raw", is_flag=True, help="Of a tree only its index, and not its files.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists, at once and when done.")
@click.option("--json", "as_json", is_flag=True, help="Say what was done as one JSON object.")
@store_option
@summarized(sends=False, done="exported")
def command(
    urns: tuple[str, ...],
    file: str,
    other: str | None,
    no_capabilities: bool,
    raw: bool,
    force: bool,
    as_json: bool,
    store_url: str | None,
) -> None:
    """Write the blocks of contents and whole trees into FILE, or to standard output (-).

    FILE has the URNs too, so that kapla import can say what it brought: whoever gets it can read
    the contents. It is then for its owner only (mode 0600).
    """
    if file.lower().startswith("urn:"):
        raise click.UsageError("The last argument is the FILE to write, or -.")
    if file == "-" and as_json:
        raise click.UsageError("Standard output is taken by the bundle: --json wants a FILE.")
    contents = [read_capability(urn) for urn in urns]
    output = OutputFile(file, force=force)
    named = [] if no_capabilities else contents
    moved = run(_export(contents, named, output, other, raw, store_url))
    if not output.is_stream:
        click.echo(json.dumps(asdict(moved)) if as_json else moved.sentence("written"))


async def _export(
    contents: Sequence[ReadCapability],
    named: Sequence[ReadCapability],
    output: OutputFile,
    other: str | None,
    raw: bool,
    store_url: str | None,
) -> Moved:
    moved = Moved()
    async with (
        connect(store_url, *contents) as store,
        _presence(other) as there,
        output.open(private=bool(named)) as file,
    ):
        with progress("Exporting") as shown:
            has = _once(there)
            pieces = move_blocks(store, contents, has, moved, raw=raw)
            file.write(BUNDLE_HEAD)
            async with aclosing(pieces):
                async for piece in pieces:
                    _write(file, piece, shown)
            file.write(format_bundle_tail(dict.fromkeys(named)))
    return moved


def _write(file: BinaryIO, piece: Sequence[tuple[Reference, bytes]], shown: Progress) -> None:
    for reference, block in piece:
        file.write(format_bundled_block(reference, block))
        shown.advance(len(block))


def _once(there: Has | None) -> Has:
    """What is not to be written: what is there, and, as a map has a key once, what was given."""
    given = ReferenceSet()

    async def has(references: Sequence[Reference]) -> list[bool]:
        if there is None:
            return [not given.add(reference) for reference in references]
        found = await there(references)
        return [
            is_there or not given.add(reference)
            for reference, is_there in zip(references, found, strict=True)
        ]

    return has


@asynccontextmanager
async def _presence(other: str | None) -> AsyncIterator[Has | None]:
    """What the other side has; None if nobody asks."""
    if other is None:
        yield None
    elif "://" in other:
        async with connect(other) as store:

            async def ask(references: Sequence[Reference]) -> list[bool]:
                try:
                    return await store.find(references)
                except StoreRefused as error:
                    where = ", ".join(map(str, store.urls))
                    raise CommandError(
                        f"{where} does not tell which blocks it has ({error}): give a list of"
                        " them, as kapla list-blocks writes it, or leave out --missing-from",
                        ExitCode.REFUSED,
                    ) from error

            yield ask
    else:
        listed = _read_list(other)

        async def look(references: Sequence[Reference]) -> list[bool]:
            return [reference in listed for reference in references]

        yield look


def _read_list(name: str) -> ReferenceSet:
    listed = ReferenceSet()
    reader = ListReader()
    try:
        with open(name, "rb") as file:
            while data := file.read(_READ):
                listed.update(reader.feed(data))
        reader.finish()
    except InvalidBlockList as error:
        raise CommandError(
            f"{os.path.basename(name)}: {error}; kapla list-blocks writes them", ExitCode.USAGE
        ) from error
    return listed

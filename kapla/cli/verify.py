"""`kapla verify`: whether every block is there, and sound."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import eris_fs
from eris.capability import ReadCapability, format_block_urn
from eris.errors import BlockNotFound
from eris.model import ConvergenceSecret
from eris.store import BlockReader
from eris.transfer import check_content
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
    urn_argument,
)
from kapla.cli.content import Kind, kind_of, load_tree
from kapla.cli.display import off_the_line
from kapla.cli.mending import BLOCK_SIZES, Again, Mending, encode_again
from kapla.cli.secret import read_secret
from kapla.cli.selecting import SelectingOptions, selecting_options
from kapla.cli.sources import Sources
from kapla.cli.store import missing_root
from kapla.cli.told import told

if TYPE_CHECKING:
    from kapla.urls import StoreUrl

__all__ = ["command"]


@dataclass(slots=True)
class _Count:
    blocks: int = 0
    missing: int = 0
    bad: int = 0
    hint: str = ""
    """What it may mean that nothing at all was found."""
    repaired: int | None = None
    """How many are there again; None, if that was not to be."""


@told(
    ("Check that a content is whole", "kapla verify @notes"),
    (
        "Store again what is missing, from what was encoded",
        "kapla verify --repair --from notes @notes",
    ),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
    means={ExitCode.MISSING: "some blocks are missing", ExitCode.DAMAGED: "some blocks are bad"},
)
@click.command(name="verify", short_help="Check that every block is there and sound.")
@urn_argument
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object for each finding and at end."
)
@click.option(
    "--here",
    is_flag=True,
    help="Only what the store has itself counts, not what its peers and seeds have.",
)
@click.option("--repair", is_flag=True, help="Store again what is missing or bad; see --from.")
@click.option(
    "--from",
    "origins",
    metavar="STORE|PATH",
    multiple=True,
    help="Where --repair has it from: the URL of another store, or the file or directory that was"
    " encoded, with the options that encode had then. Each PATH, if there were several.",
)
@click.option(
    "--block-size",
    type=click.Choice(BLOCK_SIZES, case_sensitive=False),
    metavar="|".join(BLOCK_SIZES),
    help="PATH was encoded with this --block-size. A file's is told by its URN.",
)
@click.option("--packed", is_flag=True, help="PATH was encoded as a packed tree.")
@click.option("--level", type=click.INT, help="PATH was encoded with this --level.", metavar="N")
@click.option(
    "--convergence-secret",
    "secret_file",
    metavar="FILE",
    help="PATH was encoded with the 32 bytes in FILE.",
)
@selecting_options(skip=False)
@store_option
@summarized(sends=False, done="verified")
def command(
    urn: str,
    as_json: bool,
    here: bool,
    repair: bool,
    origins: tuple[str, ...],
    block_size: str | None,
    packed: bool,
    level: int | None,
    secret_file: str | None,
    selecting: SelectingOptions,
    store_url: str | None,
) -> None:
    """Check that every block of a content, or of a whole tree, is in the store and sound.

    Lists what is missing or bad. What lies under a missing internal node cannot be known. With
    --repair the exit code tells how it is after the repair.
    """
    if repair != bool(origins):
        raise click.UsageError("--repair and --from STORE|PATH belong together.")
    if here and repair:
        raise click.UsageError("--here and --repair exclude each other: it mends what is here.")
    again = None
    if len(origins) > 1 and any(map(_is_url, origins)):
        raise click.UsageError("--from takes one STORE, or each PATH that was encoded.")
    if origins and not _is_url(origins[0]):
        secret = ConvergenceSecret.null() if secret_file is None else read_secret(secret_file)
        sources = Sources.of(origins)
        selected = selecting.of(sources, store_url)
        again = Again(sources, block_size, packed, level, secret, selected.selection)
    elif block_size or packed or level or secret_file or selecting.are_given:
        raise click.UsageError("Options of encode are for --repair --from PATH.")
    # What tells the highest is loaded for packed trees only.
    if level is not None and not 1 <= level <= eris_fs.MAX_LEVEL:
        raise click.BadParameter(f"1 to {eris_fs.MAX_LEVEL}", param_hint="'--level'")
    capability = read_capability(urn)
    if again is not None:
        count = run(_repair_again(capability, again, as_json, store_url))
    elif origins:
        count = run(_repair(capability, origins[0], as_json, store_url))
    else:
        count = run(_verify(capability, as_json, store_url, here=here))
    _summarize(count, as_json)


def _is_url(origin: str) -> bool:
    return "://" in origin and not os.path.lexists(origin)


def _summarize(count: _Count, as_json: bool) -> None:
    """Say how it was, and end with what that means."""
    summary = {"blocks": count.blocks, "missing": count.missing, "bad": count.bad}
    blocks = "1 block" if count.blocks == 1 else f"{count.blocks} blocks"
    line = f"{blocks}, {count.missing} missing, {count.bad} bad"
    if count.repaired is not None:
        summary["repaired"] = count.repaired
        line += f", {count.repaired} repaired"
    click.echo(json.dumps(summary) if as_json else line)
    if count.bad:
        raise CommandError("some blocks are bad", ExitCode.DAMAGED)
    if count.missing:
        raise CommandError(f"some blocks are missing{count.hint}", ExitCode.MISSING)


async def _verify(
    capability: ReadCapability, as_json: bool, store_url: str | None, *, here: bool
) -> _Count:
    async with connect(store_url) as store:
        reader: BlockReader = store
        if here:
            # Loaded by those who need it.
            from kapla.cli.stored_only import StoredOnly

            reader = StoredOnly(store)
        return await _verify_in(reader, capability, as_json, store.urls)


async def _repair(
    capability: ReadCapability, origin: str, as_json: bool, store_url: str | None
) -> _Count:
    """Verify, and fetch from another store what is missing or bad."""
    async with connect(store_url) as store, connect(origin) as source:
        taker = await store.taker()
        mending = Mending(taker, source)
        count = await _verify_in(mending, capability, as_json, taker.urls)
    count.repaired = len(mending.repaired)
    return count


async def _repair_again(
    capability: ReadCapability, again: Again, as_json: bool, store_url: str | None
) -> _Count:
    """Encode once more what is missing or bad, then verify."""
    async with connect(store_url) as store:
        taker = await store.taker()
        mending = Mending(taker)
        await encode_again(mending, capability, again)
        count = await _verify_in(mending, capability, as_json, taker.urls)
    count.repaired = len(mending.repaired)
    return count


async def _verify_in(
    store: BlockReader, capability: ReadCapability, as_json: bool, urls: Sequence[StoreUrl]
) -> _Count:
    count = _Count()
    with progress("Verifying") as shown:
        await _check(store, capability, "", count, as_json, shown)
        if count.blocks == count.missing:
            count.hint = f": {missing_root(urls)}"
        # The index itself must be whole before it can be read.
        if count.missing or count.bad or await kind_of(store, capability) is not Kind.TREE:
            return count
        tree = await load_tree(store, capability)
        if isinstance(tree, eris_fs.PackedTree):
            await _check_packs(store, tree, count, as_json, shown)
        for path, entry in tree.items():
            if isinstance(entry, eris_fs.RegularFile):
                name = eris_fs.show_path(path)
                await _check(store, entry.capability, name, count, as_json, shown)
    return count


async def _check_packs(
    store: BlockReader, tree: eris_fs.PackedTree, count: _Count, as_json: bool, shown: Progress
) -> None:
    """Check the blocks of all packs, and of those that are whole what is in them."""
    names = _names(tree)
    for number, pack in enumerate(tree.packs):
        before = count.missing, count.bad
        for piece in pack.pieces():
            await _check(store, piece, names[number], count, as_json, shown)
        if (count.missing, count.bad) != before:
            continue
        try:
            await eris_fs.read_pack(store, tree, number)
        except eris_fs.InvalidPack as error:
            count.bad += 1
            if as_json:
                facts = {"bad": None, "path": names[number], "reason": str(error)}
                _say_finding(json.dumps(facts))
            else:
                _say_finding(f"bad {names[number]}: {error.reason}")


def _names(tree: eris_fs.PackedTree) -> list[str]:
    """What to call packs: their numbers, and the first files in them."""
    names = [f"pack {number}" for number in range(len(tree.packs))]
    for path, entry in reversed(tree.items()):
        if isinstance(entry, eris_fs.PackedFile):
            for number in eris_fs.packs_of(tree, entry):
                names[number] = f"pack {number}, with {eris_fs.show_path(path)}"
    return names


async def _check(
    store: BlockReader,
    capability: ReadCapability,
    name: str,
    count: _Count,
    as_json: bool,
    shown: Progress,
) -> None:
    async with aclosing(check_content(store, capability)) as blocks:
        async for reference, error in blocks:
            count.blocks += 1
            shown.advance(int(capability.block_size))
            if error is None:
                continue
            missing = isinstance(error, BlockNotFound)
            count.missing += missing
            count.bad += not missing
            finding = "missing" if missing else "bad"
            block_urn = format_block_urn(reference)
            if as_json:
                facts = {finding: block_urn, "path": name or None, "reason": str(error)}
                _say_finding(json.dumps(facts))
            else:
                _say_finding(f"{finding} {block_urn}{f'  {name}' if name else ''}")


def _say_finding(line: str) -> None:
    """Both may be on one terminal: what is found, and how far it is."""
    with off_the_line():
        click.echo(line)

"""`kapla verify`: whether every block is there, and sound."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass

import click

import eris_fs
from eris.capability import ReadCapability, format_block_urn
from eris.errors import BlockNotFound
from eris.transfer import check_content
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
    urn_argument,
)
from kapla.cli.content import load_tree, names_tree
from kapla.cli.store import missing_root

__all__ = ["command"]


@dataclass(slots=True)
class _Count:
    blocks: int = 0
    missing: int = 0
    bad: int = 0
    hint: str = ""
    """What it may mean that nothing at all was found."""


@click.command(name="verify", short_help="Check that every block is there and sound.")
@urn_argument
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object for each finding and at end."
)
@store_option
def command(urn: str, as_json: bool, store_url: str | None) -> None:
    """Check that every block of a content, or of a whole tree, is in the store and sound.

    Lists what is missing or bad. What lies under a missing internal node cannot be known. Exit code
    4 if blocks are missing, 5 if any is bad.
    """
    count = run(_verify(read_capability(urn), as_json, store_url))
    summary = {"blocks": count.blocks, "missing": count.missing, "bad": count.bad}
    if as_json:
        click.echo(json.dumps(summary))
    else:
        blocks = "1 block" if count.blocks == 1 else f"{count.blocks} blocks"
        click.echo(f"{blocks}, {count.missing} missing, {count.bad} bad")
    if count.bad:
        raise CommandError("some blocks are bad", ExitCode.DAMAGED)
    if count.missing:
        raise CommandError(f"some blocks are missing{count.hint}", ExitCode.MISSING)


async def _verify(capability: ReadCapability, as_json: bool, store_url: str | None) -> _Count:
    count = _Count()
    async with connect(store_url) as store:
        with progress("Verifying") as shown:
            await _check(store, capability, "", count, as_json, shown)
            if count.blocks == count.missing:
                count.hint = f": {missing_root(store.urls)}"
            # The index itself must be whole before it can be read.
            if count.missing or count.bad or not await names_tree(store, capability):
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
    store: Store, tree: eris_fs.PackedTree, count: _Count, as_json: bool, shown: Progress
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
                click.echo(json.dumps(facts))
            else:
                click.echo(f"bad {names[number]}: {error.reason}")


def _names(tree: eris_fs.PackedTree) -> list[str]:
    """What to call packs: their numbers, and the first files in them."""
    names = [f"pack {number}" for number in range(len(tree.packs))]
    for path, entry in reversed(tree.items()):
        if isinstance(entry, eris_fs.PackedFile):
            for number in eris_fs.packs_of(tree, entry):
                names[number] = f"pack {number}, with {eris_fs.show_path(path)}"
    return names


async def _check(
    store: Store,
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
                click.echo(json.dumps(facts))
            else:
                click.echo(f"{finding} {block_urn}{f'  {name}' if name else ''}")

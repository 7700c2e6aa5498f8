"""`kapla info`: what a URN stands for, without writing its content."""

from __future__ import annotations

import json
from typing import Any

import click

import eris_fs
from eris.capability import ReadCapability
from eris.node import block_count
from eris.transfer import content_length
from kapla.cli.common import Store, connect, read_capability, run, store_option, urn_argument
from kapla.cli.content import Kind, kind_of, load_tree
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("See whether it is a file or a tree, and how large", "kapla info @notes"),
    ("Print the CIDs of its blocks", "kapla info --cids @notes"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="info", short_help="Show kind, size and blocks of a content.")
@urn_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--against",
    metavar="OLD-URN",
    help="Also what is new: the blocks that OLD-URN does not have, which an upgrade would move.",
)
@click.option(
    "--cids",
    is_flag=True,
    help="Instead, the CID of each block, the root first: its name for gateways of IPFS.",
)
@store_option
def command(
    urn: str, as_json: bool, against: str | None, cids: bool, store_url: str | None
) -> None:
    """Show block size, level, size, kind and blocks of a content.

    Of a plain content, and of a delta, one block a level is fetched. Of a tree the size, block size
    and level are those of its index, the blocks those of all of it, each counted once. For this the
    index and all internal nodes are fetched, and of a tree that is not packed the last block of
    each file.
    """
    if cids:
        if against is not None:
            raise click.UsageError("--cids and --against exclude each other.")
        from kapla.cli.cids import list_cids

        run(list_cids(read_capability(urn), store_url, as_json=as_json))
        return
    old = None if against is None else read_capability(against)
    facts = run(_info(read_capability(urn), old, store_url))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ') + ':':<20}{value}")


async def _info(
    capability: ReadCapability, old: ReadCapability | None, store_url: str | None
) -> dict[str, Any]:
    async with connect(store_url, capability, *((old,) if old else ())) as store:
        length = await content_length(store, capability)
        facts: dict[str, Any] = {
            "kind": "file",
            "size": length,
            "block_size": int(capability.block_size),
            "level": capability.level,
        }
        kind = await kind_of(store, capability)
        tree = await load_tree(store, capability) if kind is Kind.TREE else None
        if kind is Kind.DELTA:
            facts |= await _delta(store, capability)
        if tree is None:
            blocks = block_count(length, capability.block_size)
            facts["blocks"] = blocks
            facts["raw_bytes"] = length
            facts["block_bytes"] = blocks * capability.block_size
        else:
            facts |= _entries(tree)
        if tree is not None or old is not None:
            found = await _survey(store, capability, tree)
            facts["blocks"] = found.blocks
            facts["raw_bytes"] = found.raw_bytes
            facts["block_bytes"] = found.block_bytes
            if old is not None:
                is_tree = await kind_of(store, old) is Kind.TREE
                old_tree = await load_tree(store, old) if is_tree else None
                before = await _survey(store, old, old_tree)
                new = found.without(before)
                facts["new_blocks"] = new.blocks
                facts["new_block_bytes"] = new.block_bytes
        return facts


async def _delta(store: Store, capability: ReadCapability) -> dict[str, Any]:
    """What a delta tells of itself, and of the tree that it makes."""
    from eris_fs.delta.apply import read_head

    try:
        head = await read_head(store, capability)
    except eris_fs.InvalidManifest as error:
        raise CommandError(f"this looks like a delta, but {error}", ExitCode.DAMAGED) from error
    return {
        "kind": "delta",
        "format": "kapla-delta-1",
        "entries": head.entries,
        "files_bytes": head.size,
        "stream_bytes": head.stream_size,
        "base_outline": head.base.hex(),
    }


async def _survey(
    store: Store, capability: ReadCapability, tree: eris_fs.Tree | None
) -> eris_fs.Survey:
    if tree is None:
        return await eris_fs.survey_content(store, capability)
    return await eris_fs.survey_tree(store, capability, tree)


def _entries(tree: eris_fs.Tree) -> dict[str, Any]:
    files = [entry for entry in tree.values() if isinstance(entry, eris_fs.FileEntry)]
    facts: dict[str, Any] = {
        "kind": "tree",
        "format": "eris-fs-1",
        "files": len(files),
        "executables": sum(file.executable for file in files),
        "symlinks": _count(tree, eris_fs.Symlink),
        "empty_directories": _count(tree, eris_fs.EmptyDirectory),
    }
    if isinstance(tree, eris_fs.PackedTree):
        facts["format"] = "kapla-packed-1"
        facts["packs"] = len(tree.packs)
        facts["writer"] = tree.writer
    return facts


def _count(tree: eris_fs.Tree, kind: type) -> int:
    return sum(isinstance(entry, kind) for entry in tree.values())
